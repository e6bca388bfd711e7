//! The agent's side of one connection: authentication and parsing of requests.

use super::{
    AuthKey, Limits, MAX_REQUEST_VALUES, VERSION,
    decoder::Decoder,
    message::{Auth, Handshake, RequestHeader},
    refusal, reply,
    request::{Command, Request},
};
use crate::wire::{
    field::Field,
    msgpack::{DecodeError, Reader},
};

// The texts are Serf's; clients compare some of them.
const HANDSHAKE_REQUIRED: &str = "Handshake required";
const HANDSHAKE_AGAIN: &str = "Handshake already performed";
const UNSUPPORTED_VERSION: &str = "Unsupported IPC version";
const UNSUPPORTED_COMMAND: &str = "Unsupported command";
const AUTH_REQUIRED: &str = "Authentication required";
const AUTH_WRONG: &str = "Invalid authentication token";

/// Error: the connection is closed without a reply, because the client's input is not this protocol or exceeds
/// a limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the client does not speak the protocol: {0}")]
pub struct SessionError(#[from] DecodeError);

/// Next action for the server that runs the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Send these bytes, the reply to a request.
    Reply(Vec<u8>),
    /// Send these bytes, the reply to a request, then close the connection.
    Last(Vec<u8>),
    /// Execute this request, and reply under its number.
    Request {
        /// Number that the client gave the request.
        seq: u64,
        /// Request to execute.
        request: Request,
    },
}

/// Progress of the client in opening the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    New,
    Greeted,
    Open,
    Closed,
}

/// Header of a request: its number and command, or the refusal that ends the connection.
enum Header {
    Known(u64, Command),
    Refused(Step),
}

/// State of one connection. The caller passes bytes to [`Session::push`], at most 64 KiB at a time, and then
/// calls [`Session::poll`] until it returns `None`. After an error or [`Step::Last`] it ignores further input.
#[derive(Debug)]
pub struct Session {
    decoder: Decoder,
    stage: Stage,
    key: Option<AuthKey>,
    /// Header of a request whose body is incomplete; `None` while none is.
    header: Option<(u64, Command)>,
}

impl Session {
    /// Creates the state of a new connection. With a key, clients must present that key.
    pub fn new(limits: &Limits, key: Option<AuthKey>) -> Self {
        let decoder = Decoder::new(limits.request_bytes, MAX_REQUEST_VALUES);
        Self { decoder, stage: Stage::New, key, header: None }
    }

    /// Adds bytes that were read from the client.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.stage != Stage::Closed {
            self.decoder.push(bytes);
        }
    }

    /// Returns whether the client has completed the handshake and authentication.
    pub fn is_open(&self) -> bool {
        self.stage == Stage::Open
    }

    /// Returns whether a request has begun and is incomplete.
    pub fn is_partial(&self) -> bool {
        self.stage != Stage::Closed && (self.header.is_some() || self.decoder.waiting() > 0)
    }

    /// Number of bytes kept for a request that is incomplete.
    pub fn waiting(&self) -> usize {
        self.decoder.waiting()
    }

    /// Returns the next action; `None` if no request is complete.
    pub fn poll(&mut self) -> Result<Option<Step>, SessionError> {
        if self.stage == Stage::Closed {
            return Ok(None);
        }
        let step = self.next_step();
        if matches!(step, Ok(Some(Step::Last(_))) | Err(_)) {
            self.stage = Stage::Closed;
        }
        Ok(step?)
    }

    fn next_step(&mut self) -> Result<Option<Step>, DecodeError> {
        let (seq, command) = match self.header {
            Some(header) => header,
            None => match self.next_header()? {
                Some(Header::Known(seq, command)) => (seq, command),
                Some(Header::Refused(last)) => return Ok(Some(last)),
                None => return Ok(None),
            },
        };
        self.header = Some((seq, command));
        let body = match command.has_body() {
            true => match self.decoder.next()? {
                Some(body) => body.to_vec(),
                None => return Ok(None),
            },
            false => Vec::new(),
        };
        self.header = None;
        Ok(Some(self.take(seq, command, &body)))
    }

    /// Parses the header of the next request; `None` if it is incomplete. An unknown command ends the
    /// connection, because it is unknown whether a body follows.
    fn next_header(&mut self) -> Result<Option<Header>, DecodeError> {
        let Some(bytes) = self.decoder.next()? else { return Ok(None) };
        let reader = &mut Reader::bounded(bytes, MAX_REQUEST_VALUES);
        let RequestHeader { command, seq } = <RequestHeader as Field>::decode(reader)?;
        let command = Command::parse(&command);
        let error = match (self.stage, command) {
            (Stage::New, Some(Command::Handshake)) => None,
            (Stage::New, _) => Some(HANDSHAKE_REQUIRED),
            (Stage::Greeted, None) => Some(AUTH_REQUIRED),
            (_, None) => Some(UNSUPPORTED_COMMAND),
            (_, Some(_)) => None,
        };
        Ok(Some(match (command, error) {
            (Some(command), None) => Header::Known(seq, command),
            (_, error) => Header::Refused(Step::Last(reply(seq, error.unwrap_or(UNSUPPORTED_COMMAND)))),
        }))
    }

    fn take(&mut self, seq: u64, command: Command, body: &[u8]) -> Step {
        let may_ask = self.is_open() || matches!(command, Command::Handshake | Command::Auth);
        if !may_ask {
            // Clients know this error, and expect no body with it.
            return Step::Reply(reply(seq, AUTH_REQUIRED));
        }
        match Request::decode(command, body) {
            Ok(Request::Handshake(Handshake { version })) => self.handshake(seq, version),
            Ok(Request::Auth(Auth { auth_key })) => self.auth(seq, &auth_key),
            Ok(request) => Step::Request { seq, request },
            Err(error) => Step::Last(refusal(seq, command, &format!("the request cannot be read: {error}"))),
        }
    }

    fn handshake(&mut self, seq: u64, version: u32) -> Step {
        if version != VERSION {
            return Step::Last(reply(seq, UNSUPPORTED_VERSION));
        }
        if self.stage != Stage::New {
            return Step::Reply(reply(seq, HANDSHAKE_AGAIN));
        }
        self.stage = if self.key.is_some() { Stage::Greeted } else { Stage::Open };
        Step::Reply(reply(seq, ""))
    }

    /// Checks the key that a client presents; each connection has one attempt. Without a key only the empty one
    /// is accepted, as by Serf's agents.
    fn auth(&mut self, seq: u64, given: &[u8]) -> Step {
        let known = match &self.key {
            Some(key) => key.matches(given),
            None => given.is_empty(),
        };
        if !known {
            return Step::Last(reply(seq, AUTH_WRONG));
        }
        self.stage = Stage::Open;
        Step::Reply(reply(seq, ""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::message::{ChangeKey, ReplyHeader};

    fn session(secret: Option<&str>) -> Session {
        Session::new(&Limits::default(), secret.and_then(|secret| AuthKey::new(secret.as_bytes())))
    }

    fn greet() -> Request {
        Request::Handshake(Handshake { version: 1 })
    }

    fn auth(secret: &str) -> Request {
        Request::Auth(Auth { auth_key: secret.into() })
    }

    /// Returns a session's reactions to requests with numbers from 1: `ok`, the error, or `do` for a request to
    /// execute; `!` marks the last reply.
    fn told(session: &mut Session, requests: &[Request]) -> Vec<String> {
        let mut told = Vec::new();
        for (number, request) in (1..).zip(requests) {
            session.push(&request.encode(number));
            while let Some(step) = session.poll().expect("good requests") {
                let of = |bytes: &[u8]| {
                    let header = ReplyHeader::decode(bytes).expect("a reply");
                    assert_eq!(header.seq, number);
                    if header.error.is_empty() { "ok".to_owned() } else { header.error.to_string() }
                };
                told.push(match step {
                    Step::Reply(bytes) => of(&bytes),
                    Step::Last(bytes) => format!("!{}", of(&bytes)),
                    Step::Request { seq, request: passed } => {
                        assert_eq!((seq, &passed), (number, request));
                        "do".to_owned()
                    }
                });
            }
        }
        told
    }

    #[test]
    fn nothing_is_done_before_the_handshake() {
        assert_eq!(told(&mut session(None), &[Request::Stats, greet()]), ["!Handshake required"]);
        let mut old = session(None);
        let version = Request::Handshake(Handshake { version: 2 });
        assert_eq!(told(&mut old, &[version, greet()]), ["!Unsupported IPC version"]);
        assert!(!old.is_open());
        let mut good = session(None);
        assert_eq!(told(&mut good, &[greet(), Request::Stats]), ["ok", "do"]);
        assert_eq!(told(&mut good, &[greet()]), ["Handshake already performed"]);
        assert!(good.is_open() && !good.is_partial());
    }

    #[test]
    fn with_a_key_nothing_is_done_before_it_is_given() {
        let mut asked = session(Some("secret"));
        let key = Request::UseKey(ChangeKey { key: "x".into() });
        let required = "Authentication required".to_owned();
        assert_eq!(
            told(&mut asked, &[greet(), key.clone(), Request::Stats]),
            ["ok".into(), required.clone(), required]
        );
        assert!(!asked.is_open());
        assert_eq!(told(&mut asked, &[auth("secret"), key]), ["ok", "do"]);
        for wrong in ["", "secre", "secret2", "Secret"] {
            let mut refused = session(Some("secret"));
            let said = told(&mut refused, &[greet(), auth(wrong), auth("secret"), Request::Stats]);
            assert_eq!(said, ["ok", "!Invalid authentication token"], "{wrong:?}");
        }
        // An agent without a key.
        assert_eq!(told(&mut session(None), &[greet(), auth("")]), ["ok", "ok"]);
        assert_eq!(told(&mut session(None), &[greet(), auth("x")]), ["ok", "!Invalid authentication token"]);
    }

    #[test]
    fn unknown_commands_and_broken_bodies_end_the_connection() {
        let unknown = [&[0x82, 0xa7][..], b"Command", &[0xa3], b"fly", &[0xa3], b"Seq", &[9]].concat();
        let last = |bytes: &[u8], secret: Option<&str>| {
            let mut session = session(secret);
            assert_eq!(told(&mut session, &[greet()]), ["ok"]);
            session.push(bytes);
            match session.poll().expect("it reads") {
                Some(Step::Last(bytes)) => (ReplyHeader::decode(&bytes).expect("a reply"), bytes),
                other => panic!("{other:?}"),
            }
        };
        let (header, _) = last(&unknown, None);
        assert_eq!((header.seq, header.error.as_str()), (9, "Unsupported command"));
        assert_eq!(last(&unknown, Some("x")).0.error, "Authentication required");
        // A number in the place of a map: the reply has the body that the client expects.
        let mut broken = Request::InstallKey(ChangeKey::default()).encode(3);
        broken.truncate(broken.len() - ChangeKey::default().encode().len());
        broken.push(7);
        let (header, bytes) = last(&broken, None);
        assert!(header.seq == 3 && header.error.as_str().contains("cannot be read"), "{header:?}");
        let empty = crate::rpc::message::Keys::default().encode();
        assert!(bytes.ends_with(&empty), "{bytes:?}");
    }

    #[test]
    fn what_is_not_the_protocol_is_refused() {
        for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0x16, 3, 1, 0], &[0xc1], &[0x93, 1, 2, 3]] {
            let mut session = session(None);
            session.push(garbage);
            assert!(session.poll().is_err(), "{garbage:?}");
            assert_eq!(session.poll(), Ok(None), "and stays so");
        }
    }
}
