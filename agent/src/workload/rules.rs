//! What counts as a server: the configuration's rules first, then the built-in ones.
//!
//! In: settings, and a process that is asked about. Out: a [`Verdict`] with what its label is made of.
//! The built-in commands themselves are in `process`.

use std::cell::OnceCell;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

use super::cgroup::Place;
use super::node::Node;
use super::process::{self, Command};
use super::{ServerKind, labels};

/// Workloads followed at once unless the configuration says otherwise.
pub const WORKLOADS_MAX_DEFAULT: usize = 8;
/// Rules of a configuration at most.
pub const RULES_MAX: usize = 64;
/// Size of a compiled expression at most.
const REGEX_BYTES_MAX: usize = 1 << 20;
/// The unit of Red Hat AI Inference Server.
const RHAIIS_UNIT: &str = "rhaiis.service";

/// Settings of this room: the configuration's list `workload`, and its part of `limits`.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Rules before the built-in ones; the first that matches wins.
    pub rules: Vec<Rule>,
    /// Workloads followed at once.
    pub workloads_max: usize,
    /// A workload that has not run for so long is forgotten, and its series go.
    pub forget_after: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            rules: Vec::new(),
            workloads_max: WORKLOADS_MAX_DEFAULT,
            forget_after: Duration::from_secs(24 * 60 * 60),
        }
    }
}

/// One rule. All fields that are given must match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rule {
    /// The workload's label; without it the label is made as for a built-in rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Found somewhere in the arguments, joined by single spaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command_regex: Option<String>,
    /// The port on the command line, its program's default, or one it listens on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Part of its cgroup path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    /// Its systemd unit, with or without `.service`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Which program it is. A command that is known to be another does not match; one that is not known
    /// is taken for this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<ServerKind>,
}

/// What was found about a server, before it has a label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    pub kind: ServerKind,
    /// The rule's name.
    pub name: Option<String>,
    /// Where it will listen, as far as that can be known now.
    pub port: Option<u16>,
    pub uds: Option<String>,
}

/// What the rules say of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Server(Server),
    /// It is the first of these that listens on its port. Never empty, at most one for each rule.
    IfListening(Vec<(u16, Server)>),
    No,
}

/// A process that is asked about; its cgroup is read only when a rule wants it.
#[derive(Debug)]
pub struct Candidate<'a> {
    node: &'a Node,
    tgid: u32,
    arguments: Vec<String>,
    place: OnceCell<Place>,
}

impl<'a> Candidate<'a> {
    #[must_use]
    pub fn new(node: &'a Node, tgid: u32, command: &[u8]) -> Self {
        Self { node, tgid, arguments: process::arguments(command), place: OnceCell::new() }
    }

    /// Where it runs.
    pub fn place(&self) -> &Place {
        self.place.get_or_init(|| self.node.place(self.tgid))
    }

    /// The built-in command it is, its port found in its file of options where the line has none.
    fn recognise(&self) -> Option<Command> {
        let mut command = process::recognise(&self.arguments)?;
        if command.port.is_none()
            && let Some(path) = &command.config
        {
            command.port = self.node.file_of(self.tgid, path).as_deref().and_then(port_in_yaml);
        }
        if command.kind == ServerKind::Vllm && self.place().unit.as_deref() == Some(RHAIIS_UNIT) {
            command.kind = ServerKind::RhelAi;
        }
        Some(command)
    }
}

/// The rules, ready to be asked.
#[derive(Debug)]
pub struct Rules {
    rules: Vec<(Rule, Option<Regex>)>,
}

impl Rules {
    /// # Errors
    /// A rule that matches every process, or an expression that cannot be compiled.
    pub fn new(rules: &[Rule]) -> Result<Self> {
        ensure!(rules.len() <= RULES_MAX, "`workload` has {} rules, at most {RULES_MAX} fit", rules.len());
        let rules = rules
            .iter()
            .enumerate()
            .map(|(at, rule)| compile(rule).with_context(|| format!("rule {} of `workload`", at + 1)));
        Ok(Self { rules: rules.collect::<Result<_>>()? })
    }

    /// There are no rules but the built-in ones.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether a process with this command line is worth a closer look.
    #[must_use]
    pub fn may_match(&self, command: &[u8]) -> bool {
        !command.is_empty() && (!self.rules.is_empty() || process::may_be_server(command))
    }

    /// What `candidate` is.
    #[must_use]
    pub fn judge(&self, candidate: &Candidate<'_>) -> Verdict {
        if process::is_carrier(&candidate.arguments) {
            return Verdict::No;
        }
        let command = candidate.recognise();
        let line = OnceCell::new();
        let fits = |rule: &Rule, regex: Option<&Regex>| {
            regex.is_none_or(|regex| regex.is_match(line.get_or_init(|| candidate.arguments.join(" "))))
                && rule.kind.is_none_or(|kind| fits_kind(kind, command.as_ref(), rule))
                && rule.unit.as_deref().is_none_or(|unit| fits_unit(unit, candidate.place()))
                && rule.cgroup.as_deref().is_none_or(|part| candidate.place().path.contains(part))
        };
        let mut waiting = Vec::new();
        for (rule, _) in self.rules.iter().filter(|(rule, regex)| fits(rule, regex.as_ref())) {
            match ask_port(rule, command.as_ref(), &candidate.arguments) {
                Port::Fits => return Verdict::Server(server(rule, command, &candidate.arguments)),
                Port::Unknown(port) => waiting.push((port, server(rule, None, &candidate.arguments))),
                Port::Differs => {}
            }
        }
        match command {
            Some(command) => Verdict::Server(server(&Rule::default(), Some(command), &candidate.arguments)),
            None if waiting.is_empty() => Verdict::No,
            None => Verdict::IfListening(waiting),
        }
    }
}

impl ServerKind {
    /// Value of the label `kind`, and the name in a rule.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Vllm => "vllm",
            Self::Sglang => "sglang",
            Self::LlamaCpp => "llama_cpp",
            Self::RhelAi => "rhel_ai",
            Self::OpenAi => "openai",
        }
    }

    /// Where it listens when its command line does not say.
    #[must_use]
    pub fn port_default(self) -> Option<u16> {
        match self {
            Self::Vllm | Self::RhelAi => Some(8000),
            Self::Sglang => Some(30_000),
            Self::LlamaCpp => Some(8080),
            Self::OpenAi => None,
        }
    }
}

fn compile(rule: &Rule) -> Result<(Rule, Option<Regex>)> {
    let built_in = rule.kind.is_some_and(|kind| kind != ServerKind::OpenAi);
    ensure!(
        narrows(rule) || built_in,
        "it would match every process: give `command_regex`, `port`, `cgroup` or `unit`"
    );
    for (key, text) in
        [("command_regex", &rule.command_regex), ("cgroup", &rule.cgroup), ("unit", &rule.unit)]
    {
        ensure!(text.as_deref() != Some(""), "`workload.{key}` is empty: leave it out to match any");
    }
    ensure!(rule.port != Some(0), "`workload.port` is 0: leave it out to match any");
    if let Some(name) = &rule.name {
        ensure!(labels::is_label(name), "`workload.name` is {name:?}, but a label is {}", labels::LABEL_RULE);
    }
    Ok((rule.clone(), rule.command_regex.as_deref().map(expression).transpose()?))
}

fn expression(text: &str) -> Result<Regex> {
    RegexBuilder::new(text).size_limit(REGEX_BYTES_MAX).build().map_err(|error| {
        // The crate's own message spans several lines; its last one says what is wrong.
        let message = error.to_string();
        anyhow!("`workload.command_regex`: {}", message.lines().last().unwrap_or_default())
    })
}

/// The rule names something beside the kind.
fn narrows(rule: &Rule) -> bool {
    rule.command_regex.is_some() || rule.port.is_some() || rule.cgroup.is_some() || rule.unit.is_some()
}

fn fits_kind(kind: ServerKind, command: Option<&Command>, rule: &Rule) -> bool {
    match command {
        // Inside the unit it is both.
        Some(command) if command.kind == ServerKind::RhelAi => {
            matches!(kind, ServerKind::RhelAi | ServerKind::Vllm)
        }
        Some(command) => kind == command.kind || kind == ServerKind::OpenAi,
        None => narrows(rule),
    }
}

fn fits_unit(unit: &str, place: &Place) -> bool {
    let found = place.unit.as_deref();
    found.is_some_and(|found| found == unit || found.strip_suffix(".service") == Some(unit))
}

enum Port {
    Fits,
    Differs,
    /// Only its listening will tell.
    Unknown(u16),
}

fn ask_port(rule: &Rule, command: Option<&Command>, arguments: &[String]) -> Port {
    let Some(wanted) = rule.port else { return Port::Fits };
    let fits = match command {
        Some(command) => port_of(command) == Some(wanted),
        None if process::port(arguments) == Some(wanted) => true,
        None => return Port::Unknown(wanted),
    };
    if fits { Port::Fits } else { Port::Differs }
}

fn port_of(command: &Command) -> Option<u16> {
    if command.uds.is_some() { None } else { command.port.or(command.kind.port_default()) }
}

fn server(rule: &Rule, command: Option<Command>, arguments: &[String]) -> Server {
    let name = rule.name.clone();
    match command {
        Some(command) => Server {
            kind: rule.kind.unwrap_or(command.kind),
            name,
            port: port_of(&command),
            uds: command.uds,
        },
        None => Server {
            kind: rule.kind.unwrap_or(ServerKind::OpenAi),
            name,
            port: rule.port.or_else(|| process::port(arguments)),
            uds: None,
        },
    }
}

/// `port: N` at the top level of a YAML file. The rest of the file is the server's business.
fn port_in_yaml(text: &str) -> Option<u16> {
    text.lines().find_map(|line| {
        let value = line.strip_prefix("port:")?.split('#').next()?;
        value.trim().trim_matches(['"', '\'']).parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::super::fake_proc::{Fake, FakeProc};
    use super::*;

    fn rules(text: &str) -> Result<Rules> {
        let rule: Rule = toml::from_str(text)?;
        Rules::new(&[rule])
    }

    /// What `rule` says of a process: `NAME KIND PORT`, `if PORT`, `no`.
    fn judge(rule: &str, command: &str, cgroup: &str) -> String {
        let proc = FakeProc::new();
        proc.run(Fake { command, cgroup, ..Fake::default() });
        proc.write(100, "root/etc/serve.yaml", "model: m\nport: 9005 # here\n");
        let node = Node::new(proc.roots());
        let command = node.command(100).unwrap();
        let rules = if rule.is_empty() { Rules::new(&[]) } else { rules(rule) }.unwrap();
        if !rules.may_match(&command) {
            return "no".into();
        }
        match rules.judge(&Candidate::new(&node, 100, &command)) {
            Verdict::Server(server) => {
                let port = server.port.map_or("-".into(), |port| port.to_string());
                format!("{} {} {port}", server.name.unwrap_or("-".into()), server.kind.label())
            }
            Verdict::IfListening(ways) => {
                let ways = ways.iter().map(|(port, server)| format!("if {port} {}", server.kind.label()));
                ways.collect::<Vec<_>>().join(", ")
            }
            Verdict::No => "no".into(),
        }
    }

    fn check(rule: &str, command: &str, expected: &str) {
        assert_eq!(judge(rule, command, "0::/system.slice/chat.service"), expected, "{rule} on {command}");
    }

    #[test]
    fn built_in_rules_know_port_and_unit() {
        check("", "vllm serve m", "- vllm 8000");
        check("", "vllm serve m --port 9", "- vllm 9");
        check("", "vllm serve m --uds /run/x.sock", "- vllm -");
        check("", "vllm serve m --config /etc/serve.yaml", "- vllm 9005");
        check("", "vllm serve m --config /etc/none.yaml", "- vllm 8000");
        check("", "vllm serve m --config /etc/serve.yaml --port 9", "- vllm 9");
        check("", "python -m sglang.launch_server", "- sglang 30000");
        check("", "llama-server", "- llama_cpp 8080");
        check("", "ilab model serve", "- rhel_ai 8000");
        check("", "nginx", "no");
        let quadlet = "0::/system.slice/rhaiis.service/libpod-payload-x";
        assert_eq!(judge("", "python3 -m vllm.entrypoints.openai.api_server", quadlet), "- rhel_ai 8000");
        assert_eq!(judge("kind = 'vllm'\nname = 'x'", "vllm serve m", quadlet), "x vllm 8000");
    }

    #[test]
    fn all_fields_of_a_rule_must_match() {
        let all = "name = 'x'\ncommand_regex = 'serve .*-a'\nport = 9\ncgroup = 'system.slice'\nunit = 'chat'\nkind = 'vllm'";
        check(all, "vllm serve m -a --port 9", "x vllm 9");
        // The built-in rule is what remains.
        check(all, "vllm serve m --port 9", "- vllm 9");
        check(all, "vllm serve m -a --port 8", "- vllm 8");
        check(&all.replace("system.slice", "user.slice"), "vllm serve m -a --port 9", "- vllm 9");
        check(&all.replace("'chat'", "'chat.service'"), "vllm serve m -a --port 9", "x vllm 9");
        check(&all.replace("'chat'", "'cha'"), "vllm serve m -a --port 9", "- vllm 9");
        check(&all.replace("'vllm'", "'sglang'"), "vllm serve m -a --port 9", "- vllm 9");
    }

    #[test]
    fn a_rule_makes_a_server_of_any_program() {
        check("name = 'x'\ncommand_regex = 'app[.]py'", "python app.py --port 77", "x openai 77");
        check("name = 'x'\ncommand_regex = 'app[.]py'\nkind = 'sglang'", "python app.py", "x sglang -");
        check("name = 'x'\nunit = 'chat.service'", "/usr/bin/tgi", "x openai -");
        check("unit = 'chat.service'", "/usr/bin/tgi", "- openai -");
        check("name = 'x'\ncommand_regex = 'app[.]py'", "grep app.py", "no");
        check("name = 'x'\ncommand_regex = 'app[.]py'", "sh -c python app.py", "no");
        check("name = 'x'\nunit = 'chat.service'", "/usr/bin/conmon", "no");
    }

    #[test]
    fn a_port_is_known_by_the_command_or_by_listening() {
        check("name = 'x'\nport = 8000", "vllm serve m", "x vllm 8000");
        check("name = 'x'\nport = 8001", "vllm serve m", "- vllm 8000");
        check("name = 'x'\nport = 8000", "vllm serve m --uds /run/x.sock", "- vllm -");
        check("name = 'x'\nport = 77", "python app.py --port 77", "x openai 77");
        check("name = 'x'\nport = 77", "python app.py --port 78", "if 77 openai");
        check("name = 'x'\nport = 77\ncommand_regex = 'app'", "nginx", "no");
    }

    #[test]
    fn a_kind_alone_matches_the_built_in_commands_of_that_kind() {
        check("name = 'x'\nkind = 'vllm'", "vllm serve m", "x vllm 8000");
        check("name = 'x'\nkind = 'vllm'", "llama-server", "- llama_cpp 8080");
        check("name = 'x'\nkind = 'vllm'", "nginx", "no");
    }

    #[test]
    fn rules_that_cannot_be_meant_are_refused() {
        for (text, expected) in [
            ("name = 'x'", "would match every process"),
            ("kind = 'openai'", "would match every process"),
            ("name = 'x'\ncgroup = ''", "`workload.cgroup` is empty"),
            ("name = 'x'\nport = 0", "`workload.port` is 0"),
            ("name = 'a b'\nport = 1", "but a label is"),
            ("name = 'x'\ncommand_regex = '('", "`workload.command_regex`: error: unclosed group"),
            ("name = 'x'\ncommand_regex = '(a{1000}){1000}'", "exceeds size limit"),
            ("name = 'x'\nports = 1", "unknown field"),
            ("port = 70000", "u16"),
            ("kind = 'nim'", "unknown variant"),
        ] {
            let error = format!("{:#}", rules(text).unwrap_err());
            assert!(error.contains(expected), "{text}: {error}");
        }
        assert!(Rules::new(&vec![Rule { port: Some(1), ..Rule::default() }; RULES_MAX + 1]).is_err());
    }

    #[test]
    fn a_port_in_yaml_is_the_top_level_one() {
        for (text, expected) in [
            ("port: 1", Some(1)),
            ("a: b\nport:  '2'  # two", Some(2)),
            ("metrics:\n  port: 3", None),
            ("portal: 4", None),
            ("port: many", None),
        ] {
            assert_eq!(port_in_yaml(text), expected, "{text}");
        }
    }
}
