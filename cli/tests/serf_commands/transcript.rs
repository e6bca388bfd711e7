//! What one command of Serf's says of two agents, and how that differs.

use std::fmt::Write as _;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::differences::{DIFFERENCES, Difference};
use kvgossip_testkit::serf::command::Rpc;

/// How often a command is run again while the two differ: an answer to a query may be late on a busy machine.
const ATTEMPTS: usize = 10;
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(300);
/// Commands that are compared at a time.
const AT_A_TIME: usize = 8;
/// Arguments that are longer are shortened in a step's name.
const SHOWN: usize = 48;

/// An agent, and what stands for it in arguments and lines.
pub(crate) struct Side<'a> {
    pub(crate) rpc: &'a Rpc,
    /// Replaced in lines by what stands beside it, where the command tells of the agent that is asked.
    pub(crate) own: &'static str,
    /// What `{failed}` stands for in arguments.
    pub(crate) failed: &'static str,
}

/// A command, as arguments of `serf`.
#[derive(Clone)]
pub(crate) struct Step(Vec<String>);

impl Step {
    /// Splits a command at spaces.
    pub(crate) fn new(text: &str) -> Self {
        Self(text.split(' ').map(str::to_owned).collect())
    }

    /// With one more argument, which may be anything.
    pub(crate) fn and(mut self, argument: &str) -> Self {
        self.0.push(argument.to_owned());
        self
    }

    /// Under which the list of differences names it.
    pub(crate) fn name(&self) -> String {
        let short = |text: &String| match text.len() {
            0..=SHOWN => text.clone(),
            len => format!("{}...({len})", &text[..12]),
        };
        self.0.iter().map(short).collect::<Vec<_>>().join(" ")
    }

    fn run(&self, side: &Side<'_>) -> Vec<String> {
        let args: Vec<String> = self.0[1..].iter().map(|arg| arg.replace("{failed}", side.failed)).collect();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let ran = side.rpc.serf(&self.0[0], &args);
        let mut lines = match serde_json::from_str(ran.text()) {
            Ok(json) => flat("", &json),
            Err(_) => ran.text().lines().map(str::to_owned).collect(),
        };
        lines.extend(ran.err.lines().map(|line| format!("stderr: {line}")));
        lines.retain(|line| !line.is_empty());
        lines.iter_mut().for_each(|line| *line = self.normal(side, line));
        lines.push(format!("exit {}", ran.code));
        lines.sort();
        lines
    }

    /// A line without what differs from run to run.
    fn normal(&self, side: &Side<'_>, line: &str) -> String {
        let mut line = line.replace(&side.rpc.address, "RPC");
        // These tell of the agent that is asked.
        if self.0[0] == "info" || self.0[0] == "rtt" && self.0.len() == 2 {
            line = line.replace(side.own, "SELF");
        }
        // What a resolver says depends on the machine's.
        if let Some((before, _)) = line.split_once("nowhere.invalid") {
            line = format!("{before}nowhere.invalid");
        }
        // A busy machine has a worse health, too.
        let measured = [
            "Estimated ",
            "Query time: ",
            "\tevent_time",
            "\tgoroutines",
            "\thealth_score",
            "\tkvg_port",
            "\tmax_procs",
            "\tmember_time",
            "\tquery_time",
            "\tversion",
        ];
        let in_json = ["_time", ".goroutines", ".health_score", ".kvg_port", ".max_procs", ".version"];
        if measured.iter().any(|start| line.starts_with(start))
            || in_json.iter().any(|part| line.contains(part))
        {
            line = numbers(&line);
        }
        let words = line.split(' ').filter(|word| !word.is_empty()).map(word);
        words.collect::<Vec<_>>().join(" ")
    }

    /// What both say, each sorted: lists and answers have no order.
    pub(crate) fn both(&self, sides: &[Side<'_>; 2]) -> [Vec<String>; 2] {
        thread::scope(|scope| {
            let runs = sides.each_ref().map(|side| scope.spawn(|| self.run(side)));
            runs.map(|run| run.join().expect("it runs"))
        })
    }
}

/// Every text and number of a JSON value as a line with the way to it; a list's rows go by their names.
fn flat(way: &str, value: &Value) -> Vec<String> {
    match value {
        Value::Object(fields) if fields.is_empty() => vec![format!("{way} = {{}}")],
        Value::Object(fields) => {
            fields.iter().flat_map(|(name, value)| flat(&format!("{way}.{name}"), value)).collect()
        }
        Value::Array(rows) if rows.is_empty() => vec![format!("{way} = []")],
        Value::Array(rows) => {
            let name = |row: &Value| row["name"].as_str().unwrap_or("").to_owned();
            rows.iter().flat_map(|row| flat(&format!("{way}[{}]", name(row)), row)).collect()
        }
        value => vec![format!("{way} = {value}")],
    }
}

/// A word of a line: tags are in no order, and the agent's own ids are of no interest.
fn word(word: &str) -> String {
    let mut tags: Vec<&str> = word.split(',').collect();
    if tags.iter().all(|tag| tag.contains('=')) {
        tags.sort_unstable();
    }
    let text = tags.join(",");
    let id = text.trim_matches('"');
    let is_id = [16, 64].contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_id { text.replace(id, "ID") } else { text }
}

/// With `N` for every number.
fn numbers(line: &str) -> String {
    let mut out = String::new();
    for part in line.split_inclusive(|char: char| !char.is_ascii_digit() && char != '.') {
        let digits = part.trim_end_matches(|char: char| !char.is_ascii_digit());
        if digits.is_empty() {
            out.push_str(part);
        } else {
            out.push('N');
            out.push_str(&part[digits.len()..]);
        }
    }
    out
}

/// Those of `lines` that the others have not.
fn only<'a>(lines: &'a [String], others: &[String]) -> Vec<&'a str> {
    let mut others: Vec<&str> = others.iter().map(String::as_str).collect();
    let mut only: Vec<&str> = lines.iter().map(String::as_str).collect();
    only.retain(|line| match others.iter().position(|other| other == line) {
        Some(found) => {
            others.swap_remove(found);
            false
        }
        None => true,
    });
    only
}

/// Compares step after step, and holds what is wrong until the end.
#[derive(Default)]
pub(crate) struct Comparison {
    wrong: Mutex<String>,
    compared: Mutex<Vec<String>>,
}

impl Comparison {
    /// Holds lines of both agents against the list of differences; what is wrong if they do not fit.
    fn judge(name: &str, [serf, kvgossip]: &[Vec<String>; 2]) -> Result<(), String> {
        let listed: Vec<&Difference> = DIFFERENCES.iter().filter(|known| known.is_of(name)).collect();
        let mut known = [Vec::new(), Vec::new()];
        for difference in listed {
            known[0].extend_from_slice(difference.serf);
            known[1].extend_from_slice(difference.kvgossip);
        }
        known.iter_mut().for_each(|lines| lines.sort_unstable());
        let found = [only(serf, kvgossip), only(kvgossip, serf)];
        if found == known {
            return Ok(());
        }
        let mut wrong = format!("\n$ serf {name}\n");
        for (side, found, known) in [("serf", &found[0], &known[0]), ("kvgossip", &found[1], &known[1])] {
            let new = found.iter().filter(|line| !known.contains(line));
            let gone = known.iter().filter(|line| !found.contains(line));
            new.for_each(|line| writeln!(wrong, "  {side} alone, not listed: {line:?}").expect("a text"));
            gone.for_each(|line| {
                writeln!(wrong, "  {side}, listed but does not occur: {line:?}").expect("a text")
            });
        }
        Err(wrong)
    }

    /// Compares what is not a command's output alone.
    pub(crate) fn lines(&self, name: &str, lines: &[Vec<String>; 2]) {
        self.compared.lock().expect("unpoisoned").push(name.to_owned());
        if let Err(wrong) = Self::judge(name, lines) {
            self.wrong.lock().expect("unpoisoned").push_str(&wrong);
        }
    }

    /// Runs a command against both; gives what they say.
    pub(crate) fn step(&self, sides: &[Side<'_>; 2], step: &Step) -> [Vec<String>; 2] {
        self.step_as(&step.name(), sides, step)
    }

    /// Like [`Comparison::step`], for a command whose arguments are others each time.
    pub(crate) fn step_as(&self, name: &str, sides: &[Side<'_>; 2], step: &Step) -> [Vec<String>; 2] {
        let mut lines = step.both(sides);
        for _ in 1..ATTEMPTS {
            if Self::judge(name, &lines).is_ok() {
                break;
            }
            thread::sleep(BETWEEN_ATTEMPTS);
            lines = step.both(sides);
        }
        self.lines(name, &lines);
        lines
    }

    /// Runs commands that change nothing, several at a time.
    pub(crate) fn steps(&self, sides: &[Side<'_>; 2], steps: Vec<Step>) {
        let steps = Mutex::new(steps.into_iter());
        let next = || steps.lock().expect("unpoisoned").next();
        thread::scope(|scope| {
            for _ in 0..AT_A_TIME {
                scope.spawn(|| {
                    while let Some(step) = next() {
                        self.step(sides, &step);
                    }
                });
            }
        });
    }

    /// Fails if anything differs that is not listed, or is listed and does not differ.
    pub(crate) fn finish(self) {
        let mut wrong = self.wrong.into_inner().expect("unpoisoned");
        let compared = self.compared.into_inner().expect("unpoisoned");
        for listed in DIFFERENCES {
            assert!(!listed.why.is_empty(), "a difference needs a reason: {:?}", listed.steps);
            for step in listed.steps.iter().filter(|step| !compared.iter().any(|name| name == *step)) {
                writeln!(wrong, "listed, but no step of that name: {step}").expect("a text");
            }
        }
        println!("{} commands compared, {} differences are listed", compared.len(), DIFFERENCES.len());
        assert!(wrong.is_empty(), "{wrong}");
    }
}
