//! `docs/openapi.json` describes the HTTP API: it is made from the types that the agent answers with and the table
//! below, and held against the routes and the answers of a running agent.

#[path = "openapi/operations.rs"]
mod operations;
#[path = "openapi/requests.rs"]
mod requests;

use kvgossip_agent::now;
use kvgossip_api as api;
use kvgossip_grants::{Fact, Signer, Verdict};
use kvgossip_testkit::agents::*;
use kvgossip_testkit::http;
use kvgossip_testkit::wait::eventually;
use operations::{Body, EVENTS, Events, Json, KV, Raw, Schema, WATCH, is_repeatable, of, operations};
use schemars::generate::{SchemaGenerator, SchemaSettings};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");
const ROUTES: &str = include_str!("../src/http/mod.rs");

fn content(body: &Body, schemas: &mut SchemaGenerator) -> Option<Value> {
    match body {
        Body::None => None,
        Json(schema) => Some(json!({ "application/json": { "schema": schema(schemas) } })),
        Raw(kind) => Some(json!({ *kind: {} })),
        Events => Some(json!({ EVENTS: { "schema": { "$ref": "#/components/schemas/WatchEvents" } } })),
    }
}

/// Each event of a watch: its name, and what its data are.
fn watch_events(schemas: &mut SchemaGenerator) -> Value {
    let kinds: [(&str, Schema, &str); 4] = [
        (
            api::event::KEY,
            of::<api::KeyEvent>,
            "What stands of a key, at the beginning and whenever it changes",
        ),
        (
            api::event::AUTHORITY,
            of::<api::AuthorityEvent>,
            "Grants, revocations and floors, before what stands on them",
        ),
        (
            api::event::SYNCED,
            of::<api::SyncedEvent>,
            "All that stood has been told: from here on the stream is live",
        ),
        (api::event::GAP, of::<api::GapEvent>, "Changes were missed"),
    ];
    let variants: Vec<Value> = kinds
        .iter()
        .map(|(name, data, text)| {
            let data = data(schemas);
            json!({
                "title": name,
                "description": text,
                "type": "object",
                "required": ["event", "data"],
                "properties": {
                    "event": { "const": name },
                    "id": { "type": "string", "description": "A cursor, for Last-Event-ID" },
                    "data": { "type": "string", "contentMediaType": "application/json", "contentSchema": data },
                },
            })
        })
        .collect();
    let text = "One event of the stream by its fields; the schema is of each event, and the stream goes on until either \
                side ends it. Comments come as signs of life.";
    json!({ "description": text, "oneOf": variants })
}

/// The conditions that every route of a key takes.
const CONDITIONS: [(&str, &str); 2] = [
    (
        "If-Match",
        "Only if one of these entity tags is that of the entry which is shown; *: only if the key is set",
    ),
    (
        "If-None-Match",
        "Only if none of these entity tags is that of the entry which is shown; *: only if the key is unset",
    ),
];

/// The entry in headers.
fn headers() -> Value {
    let described = [
        ("ETag", "The entry's id in quotes"),
        (api::header::ENTRY, "The entry's id"),
        (api::header::TIMESTAMP, "When it was written, in microseconds since 1970"),
        (api::header::GRANT, "The grant it cites, or root"),
    ];
    let header = |(name, text): (&str, &str)| {
        (name.to_owned(), json!({ "description": text, "schema": { "type": "string" } }))
    };
    Value::Object(described.into_iter().map(header).collect())
}

fn description() -> Value {
    let mut schemas = SchemaSettings::draft2020_12()
        .with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.contract = schemars::generate::Contract::Deserialize;
        })
        .into_generator();
    let error = json!({ "application/json": { "schema": of::<api::ApiError>(&mut schemas) } });
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for operation in operations() {
        let mut parameters: Vec<Value> = Vec::new();
        if operation.path.contains("{key}") {
            let text = "The key without the slash in front, as it is spelled: nothing is decoded";
            parameters.push(json!({
                "name": "key", "in": "path", "required": true, "description": text, "schema": { "type": "string" }
            }));
        }
        for name in operation.query {
            let schema = match *name {
                "limit" => json!({ "type": "integer", "minimum": 1, "maximum": api::MAX_PAGE_ROWS }),
                "heartbeat_ms" => json!({
                    "type": "integer", "minimum": api::MIN_HEARTBEAT_MS, "maximum": api::MAX_HEARTBEAT_MS
                }),
                "direct" | "authority" => json!({ "type": "boolean" }),
                _ if is_repeatable(operation.path, name) => {
                    json!({ "type": "array", "items": { "type": "string" } })
                }
                _ => json!({ "type": "string" }),
            };
            parameters.push(json!({ "name": name, "in": "query", "schema": schema }));
        }
        if operation.path == WATCH {
            let text = "The id of the last event of an earlier stream with the same interest";
            parameters.push(json!({
                "name": "Last-Event-ID", "in": "header", "description": text, "schema": { "type": "string" }
            }));
        }
        let is_kv = operation.path == KV;
        for (name, text) in CONDITIONS.iter().filter(|_| is_kv) {
            parameters.push(json!({
                "name": name, "in": "header", "description": text, "schema": { "type": "string" }
            }));
        }
        let mut success = json!({ "description": "Done" });
        if is_kv {
            success["headers"] = headers();
        }
        if let Some(content) = content(&operation.gives, &mut schemas) {
            success["content"] = content;
        }
        let status = if matches!(operation.gives, Body::None) { "204" } else { "200" };
        let mut entry = json!({
            "summary": operation.summary,
            "responses": { status: success, "default": { "description": "Why not", "content": error } },
        });
        if is_kv {
            let text = "A condition does not hold (code key.conflict): nothing was written";
            let tag = json!({ "ETag": headers()["ETag"] });
            entry["responses"]["412"] = json!({ "description": text, "headers": tag, "content": error });
        }
        if is_kv && operation.method == "get" {
            let text = "If-None-Match names the entry that is shown";
            entry["responses"]["304"] = json!({ "description": text, "headers": headers() });
        }
        if !parameters.is_empty() {
            entry["parameters"] = parameters.into();
        }
        if let Some(content) = content(&operation.takes, &mut schemas) {
            entry["requestBody"] = json!({ "required": true, "content": content });
        }
        entry["security"] = match (operation.token, operation.is_open()) {
            (true, _) => json!([{ "token": [] }]),
            (false, true) => json!([]),
            (false, false) => json!([{}, { "read": [] }, { "certificate": [] }, { "token": [] }]),
        };
        paths.entry(operation.path).or_default().insert(operation.method.into(), entry);
    }
    let events = watch_events(&mut schemas);
    let mut definitions = schemas.take_definitions(true);
    definitions.insert("WatchEvents".into(), events);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "kvgossip agent",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "MIT OR Apache-2.0" },
            "description": "Over TCP, what changes the agent, uses its identity or makes it dial needs the bearer token. \
                Where the agent guards reading (--read-token-file, --tls-client-ca), everything but /healthz and /readyz \
                needs the token for reading, a client certificate, or that token. The Unix socket needs none. Codes of \
                errors are listed in docs/errors.md. An agent that was told of others and never compared with one answers \
                503 and sync.first wherever it would answer by what it holds. Fields of answers may be added: skip what is not known. Parameters \
                and fields of bodies that a route does not have are refused."
        },
        "paths": paths,
        "components": {
            "schemas": definitions,
            "securitySchemes": {
                "token": { "type": "http", "scheme": "bearer", "description": "The token of --token-file" },
                "read": { "type": "http", "scheme": "bearer", "description": "The token of --read-token-file" },
                "certificate": { "type": "mutualTLS", "description": "A certificate of --tls-client-ca" }
            }
        }
    })
}

/// `UPDATE_DOCS=1 cargo test -p kvgossip-agent --test openapi` writes the description anew.
#[test]
fn the_description_is_what_the_types_say() {
    let text = serde_json::to_string_pretty(&description()).expect("JSON") + "\n";
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(PAGE, &text).expect("written");
    }
    let found = std::fs::read_to_string(PAGE).unwrap_or_default();
    assert!(found == text, "docs/openapi.json is not what the agent answers: UPDATE_DOCS=1 writes it anew");
}

/// Every `.route(PATH, METHOD(…).METHOD(…))` of the server is described, and nothing else is.
#[test]
fn every_route_is_described() {
    let mut served = BTreeSet::new();
    for line in ROUTES.lines().filter_map(|line| line.trim().strip_prefix(".route(\"")) {
        let (path, methods) = line.split_once('"').expect("a path");
        for method in ["get", "put", "post", "delete"] {
            if methods.contains(&format!(" {method}(")) || methods.contains(&format!(").{method}(")) {
                served.insert((method, path.replace("{*key}", "{key}")));
            }
        }
    }
    let described: BTreeSet<_> = operations().iter().map(|op| (op.method, op.path.to_owned())).collect();
    assert!(served.len() > 15, "{served:?}");
    assert_eq!(served, described, "add to operations() in this file what the server has");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_what_the_description_says() {
    let mut first = config(0);
    first.token = Some("token".into());
    first.identity = Some(identity(1));
    let a = start(first).await;
    let b = start(config(1)).await;
    let (address, peer) = (a.http_address().expect("HTTP"), b.peers().address().to_string());
    let team = identity(1);
    let given = grant(team.public(), "/a/**", root(), None);
    assert_eq!(put(&a, Fact::Grant(given)).await, Verdict::Merged);
    assert_eq!(put(&a, entry("/a/x", b"v", now(), root(), None)).await, Verdict::Merged);
    put(&a, entry("/b", b"v", now(), &team, None)).await;

    let served = http::json(&http::get(address, "/v1/openapi.json").await);
    assert!(served == description(), "what is served is not what the types say");
    let entity = team.public().entity().to_string();
    let asked = [
        ("get", "/v1/keys?match=/a/**", Value::Null),
        ("get", "/v1/facts?kind=authority", Value::Null),
        ("get", "/v1/facts", Value::Null),
        ("post", "/v1/facts", json!({ "records_b64": ["AAAA"] })),
        ("get", "/v1/grants", Value::Null),
        ("post", "/v1/explain", json!({ "entity": entity, "key": "/a/x" })),
        ("post", "/v1/explain", json!({ "entity": entity, "key": "/b" })),
        ("post", "/v1/plan", json!({ "issuer": entity, "pattern": "/b/**" })),
        ("get", "/v1/refusals", Value::Null),
        ("get", "/v1/digest?prefix=/a", Value::Null),
        ("post", "/v1/diff", json!({ "peer": peer })),
        ("post", "/v1/sync", json!({ "peer": peer })),
        ("get", "/v1/status", Value::Null),
        ("get", "/v1/members", Value::Null),
    ];
    for (method, target, body) in asked {
        let path = target.split('?').next().unwrap_or(target);
        let answer = ask(address, method, target, &body).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{method} {target}: {answer}");
        let schema =
            &served["paths"][path][method]["responses"]["200"]["content"]["application/json"]["schema"];
        conforms(&served, schema, &http::json(&answer), target);
    }
    // Refusals have one form, and each route that needs the token says so.
    let refusal =
        &served["paths"]["/v1/keys"]["get"]["responses"]["default"]["content"]["application/json"]["schema"];
    for target in ["/v1/keys?match=a", "/v1/kv/none", "/v1/nothing"] {
        conforms(&served, refusal, &http::json(&http::get(address, target).await), target);
    }
    for operation in operations() {
        let path = operation.path.replace("{key}", "a/x");
        let method = operation.method.to_uppercase();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        );
        if operation.token {
            // Before anything of a body has come.
            let head = head.replace("content-length: 0", "content-length: 5");
            assert!(http::ask(address, &head).await.starts_with("HTTP/1.1 401 "), "{method} {path}");
        } else if operation.method == "get" && operation.path != "/v1/watch" {
            assert!(http::ask(address, &head).await.starts_with("HTTP/1.1 200 "), "{method} {path}");
        }
    }
    a.stop().await;
    b.stop().await;
}

/// Routes that do not answer by what the replica holds.
const OTHERS: [(&str, &str); 20] = [
    ("put", "/v1/kv/{key}"),
    ("delete", "/v1/kv/{key}"),
    ("post", "/v1/facts"),
    ("get", "/v1/refusals"),
    ("get", "/v1/status"),
    ("get", "/v1/digest"),
    ("post", "/v1/sync"),
    ("post", "/v1/diff"),
    ("get", "/v1/members"),
    ("post", "/v1/join"),
    ("post", "/v1/leave"),
    ("post", "/v1/force-leave"),
    ("post", "/v1/tags"),
    ("post", "/v1/gossip-keys"),
    ("post", "/v1/gossip-keys/list"),
    ("post", "/v1/event"),
    ("post", "/v1/query"),
    ("get", "/v1/openapi.json"),
    ("get", "/healthz"),
    ("get", "/metrics"),
];

/// Who adds a route takes `Complete`, or says here why its answer cannot be ignorance.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_the_first_comparison_no_route_answers_by_what_the_replica_holds() {
    let mut fresh = config(0);
    (fresh.ready_alone, fresh.expects_others) = (false, true);
    (fresh.token, fresh.identity) = (Some("token".into()), Some(identity(0)));
    let agent = start(fresh).await;
    let address = agent.http_address().expect("HTTP");
    // What it has is not all that there is either.
    assert_eq!(put(&agent, entry("/a/x", b"v", now(), root(), None)).await, Verdict::Merged);
    let waits = |answer: &str| answer.starts_with("HTTP/1.1 503 ") && answer.contains("sync.first");
    for operation in operations() {
        let target = operation.path.replace("{key}", "a/x");
        let answer = ask(address, operation.method, &target, &json!({})).await;
        let place = (operation.method, operation.path);
        assert_eq!(waits(&answer), !OTHERS.contains(&place), "{place:?}: {answer}");
    }
    let conditional = "PUT /v1/kv/a/y HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer token\r\nconnection: close\r\n\
                       if-none-match: *\r\ncontent-length: 0\r\n\r\n";
    assert!(waits(&http::ask(address, conditional).await), "whether it is unset is not known");
    agent.stop().await;
}

/// Reads a watch until a text has come so often; gives its events by their fields.
async fn watched(address: std::net::SocketAddr, request: &str, (until, times): (&str, usize)) -> Vec<Value> {
    use tokio::io::AsyncReadExt;
    let mut stream = http::open(address).await;
    // To HTTP/1.0 a body is not cut into chunks.
    http::send(&mut stream, request.as_bytes()).await;
    let (mut bytes, mut piece) = (Vec::new(), vec![0; 65_536]);
    while String::from_utf8_lossy(&bytes).matches(until).count() < times || !bytes.ends_with(b"\n\n") {
        let read = tokio::time::timeout(std::time::Duration::from_secs(20), stream.read(&mut piece)).await;
        let read = read.expect("in time").expect("a stream");
        assert!(read > 0, "it ended: {}", String::from_utf8_lossy(&bytes));
        bytes.extend_from_slice(&piece[..read]);
    }
    let text = String::from_utf8(bytes).expect("text");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.0 200 ") && head.contains(EVENTS), "{head}");
    let fields = |block: &str| {
        let lines = block.lines().filter_map(|line| line.split_once(": "));
        lines.map(|(name, value)| (name.to_owned(), Value::from(value))).collect::<Map<_, _>>().into()
    };
    body.split_inclusive("\n\n")
        .filter(|block| block.ends_with("\n\n") && !block.starts_with(':'))
        .map(fields)
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_what_the_description_says() {
    let agent = start(config(0)).await;
    let address = agent.http_address().expect("HTTP");
    let team = identity(1);
    let given = grant(team.public(), "/a/**", root(), None);
    put(&agent, Fact::Grant(given.clone())).await;
    put(&agent, entry("/a/x", b"v", now(), &team, Some(given.id()))).await;
    let description = description();
    let schemas = &description["components"]["schemas"]["WatchEvents"];
    for method in ["get", "post"] {
        let described = &description["paths"][WATCH][method]["responses"]["200"]["content"][EVENTS]["schema"];
        assert_eq!(described["$ref"], "#/components/schemas/WatchEvents", "{method}");
    }

    let get = format!(
        "GET {WATCH}?key=/a/x&key=/none&authority=true HTTP/1.0\r\nhost: localhost\r\nlast-event-id: x\r\n\r\n"
    );
    let mut events = watched(address, &get, ("event: synced", 1)).await;
    let body = json!({ "filters": [["/**"]], "form": "records", "authority": true }).to_string();
    let post = format!(
        "POST {WATCH} HTTP/1.0\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    // The first cursor comes with `synced`, the next one with a change.
    let live = tokio::spawn(async move { watched(address, &post, ("\nid: ", 2)).await });
    eventually("somebody watches", async || agent.hub().watchers() > 0).await;
    while !live.is_finished() {
        put(&agent, entry("/b", b"v", now(), root(), None)).await;
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    events.extend(live.await.expect("no panic"));

    let mut seen = BTreeSet::new();
    for event in &events {
        let name = event["event"].as_str().expect("a name");
        let kinds = schemas["oneOf"].as_array().expect("kinds");
        let kind =
            kinds.iter().find(|kind| kind["properties"]["event"]["const"] == *name).expect("described");
        conforms(&description, kind, event, name);
        let data = serde_json::from_str(event["data"].as_str().expect("data")).expect("JSON");
        conforms(&description, &kind["properties"]["data"]["contentSchema"], &data, name);
        seen.insert((name, event.get("id").is_some()));
    }
    let kinds = ["key", "authority", "synced", "gap"];
    assert!(kinds.iter().all(|kind| seen.iter().any(|(name, _)| name == kind)), "{seen:?}");
    assert!(seen.contains(&("synced", true)) && seen.contains(&("key", true)), "cursors: {seen:?}");
    agent.stop().await;
}

async fn ask(address: std::net::SocketAddr, method: &str, target: &str, body: &Value) -> String {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let request = format!(
        "{} {target} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer token\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        method.to_uppercase(),
        body.len()
    );
    http::ask(address, &request).await
}

/// Demands that a value is what a schema of the description says, and has no field that it does not name.
fn conforms(description: &Value, schema: &Value, value: &Value, what: &str) {
    assert!(schema.is_object(), "{what}: it has no schema");
    let mut whole = json!({ "components": description["components"] });
    whole["allOf"] = json!([schema]);
    whole["unevaluatedProperties"] = json!(false);
    let validator = jsonschema::draft202012::new(&whole).expect("a schema");
    let faults: Vec<_> = validator.iter_errors(value).map(|error| error.to_string()).collect();
    assert!(faults.is_empty(), "{what}: {faults:?}\n{value}");
}
