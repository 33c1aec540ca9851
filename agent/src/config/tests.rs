//! Rows of text, environment and flags, and what comes of them.

use std::time::Duration;

use super::*;
use crate::workload::ServerKind;

const SHIPPED: &str = include_str!("../../../deploy/inferscope.toml");

fn sources(
    environment: &[(&str, &str)],
    flags: &[(&'static str, &'static str, &'static str, &str)],
) -> Sources {
    let own = |(name, text): &(&str, &str)| ((*name).to_owned(), (*text).to_owned());
    Sources {
        file: None,
        environment: environment.iter().map(own).collect(),
        flags: flags
            .iter()
            .map(|&(flag, section, key, text)| (flag, section, key, text.to_owned()))
            .collect(),
    }
}

/// The file's text is refused, and the operator reads this.
fn check_refused(text: &str, expected: &str) {
    let error = Config::parse(text, &Sources::default()).expect_err(text);
    assert_eq!(format!("{error:#}"), expected, "of {text:?}");
}

fn check_refused_variable(name: &str, text: &str, expected: &str) {
    let error = Config::parse("", &sources(&[(name, text)], &[])).expect_err(name);
    assert_eq!(format!("{error:#}"), expected);
}

fn parse(text: &str) -> Config {
    Config::parse(text, &Sources::default()).unwrap_or_else(|error| panic!("{text}: {error:#}"))
}

#[test]
fn unknown_key_is_refused_with_the_nearest() {
    check_refused(
        "[export]\n\nlistn = \"127.0.0.1:1\"",
        "unknown key `export.listn` at line 3, column 1: did you mean `export.listen`?",
    );
    check_refused("exprot.listen = 1", "unknown key `exprot` at line 1, column 1: did you mean `export`?");
    check_refused("listen = 1", "unknown key `listen` at line 1, column 1: did you mean `export.listen`?");
    check_refused(
        "[slo]\nstalled_after = \"1s\"",
        "unknown key `slo.stalled_after` at line 2, column 1: did you mean `request.stalled_after`?",
    );
    check_refused(
        "workload = [{ name = \"a\", port = 1, comand_regex = \"b\" }]",
        "unknown key `workload.comand_regex` at line 1, column 37: did you mean `workload.command_regex`?",
    );
}

#[test]
fn all_unknown_keys_are_named_at_once_in_their_order() {
    check_refused(
        "log.levle = \"info\"\n[limits]\nmodel = 4",
        "unknown key `log.levle` at line 1, column 5: did you mean `log.level`?; \
         unknown key `limits.model` at line 3, column 1: did you mean `limits.models`?",
    );
}

#[test]
fn far_off_section_lists_what_is_known() {
    let error = Config::parse("[zookeeper]\ninterval = \"1s\"", &Sources::default()).unwrap_err().to_string();
    assert!(
        error.starts_with("unknown key `zookeeper` at line 1, column 2: known are export, limits, "),
        "{error}"
    );
}

#[test]
fn wrong_value_names_key_and_place() {
    check_refused(
        "[export]\nlisten = 5",
        "`export.listen` at line 2, column 10: invalid type: integer `5`, expected socket address",
    );
    check_refused(
        "[export]\nlisten = \"nowhere\"",
        "`export.listen` at line 2, column 10: invalid socket address syntax",
    );
    check_refused(
        "request = { stalled_after = 10 }",
        "`request.stalled_after` at line 1, column 29: invalid type: integer `10`, expected a duration",
    );
    check_refused(
        "[log]\nformat = \"xml\"",
        "`log.format` at line 2, column 10: unknown variant `xml`, expected `text` or `json`",
    );
    check_refused(
        "[[workload]]\nkind = \"openai_\"",
        "`workload.kind` at line 2, column 8: unknown variant `openai_`, expected one of `vllm`, `sglang`, \
         `llama_cpp`, `rhel_ai`, `openai`",
    );
    check_refused(
        "[limits]\nmodels = -1",
        "`limits.models` at line 2, column 10: invalid value: integer `-1`, expected usize",
    );
}

#[test]
fn broken_file_says_where() {
    let error = Config::parse("[export\nlisten = 1", &Sources::default()).unwrap_err().to_string();
    assert!(error.contains("at line 1, column 8"), "{error}");
}

#[test]
fn value_that_cannot_work_is_refused() {
    check_refused("limits.models = 0", "`limits.models` is 0, outside 1 to 256");
    check_refused("request.stalled_after = \"1ms\"", "`request.stalled_after` is 1ms, outside 1s to 86400s");
    check_refused(
        "slo.p95_latency_target = \"120ms\"",
        "`slo.p95_latency_warning` (100ms) is below `slo.p95_latency_target` (120ms)",
    );
    check_refused(
        "slo.p95_ttft_target = \"2s\"\nslo.p95_ttft_critical = \"1s\"",
        "`slo.p95_ttft_critical` (1s) is below `slo.p95_ttft_target` (2s)",
    );
    check_refused("slo.p95_ttft_target = \"2h\"", "`slo.p95_ttft_target` is 7200s, outside 10µs to 3600s");
    check_refused(
        "request.connections_max = 32769",
        "`request.connections_max` is 32769, outside 1 to 32768",
    );
}

#[test]
fn rule_that_cannot_work_is_refused() {
    check_refused(
        "workload = [{ name = \"a\" }]",
        "rule 1 of `workload`: it would match every process: give `command_regex`, `port`, `cgroup` or `unit`",
    );
    check_refused(
        "workload = [{ name = \"a b\", port = 1 }]",
        "rule 1 of `workload`: `workload.name` is \"a b\", but a label is 1 to 128 of the characters A-Z a-z 0-9 . _ : @ / -",
    );
    check_refused(
        "workload = [{ kind = \"openai\" }]",
        "rule 1 of `workload`: it would match every process: give `command_regex`, `port`, `cgroup` or `unit`",
    );
    check_refused(
        "workload = [{ name = \"a\", command_regex = \"(\" }]",
        "rule 1 of `workload`: `workload.command_regex`: error: unclosed group",
    );
    check_refused(
        "workload = [{ name = \"a\", port = 0 }]",
        "rule 1 of `workload`: `workload.port` is 0: leave it out to match any",
    );
    check_refused(
        "workload = [{ name = \"a\", unit = \"\" }]",
        "rule 1 of `workload`: `workload.unit` is empty: leave it out to match any",
    );
}

#[test]
fn rules_that_can_work_are_taken() {
    let rules = ["kind = \"vllm\"", "port = 1", "name = \"a\"\nport = 1", "name = \"a\"\nunit = \"b\""];
    let text: String = rules.iter().map(|rule| format!("[[workload]]\n{rule}\n")).collect();
    assert_eq!(parse(&text).workload.len(), rules.len());
}

#[test]
fn too_many_rules_are_refused() {
    let rule = |place| format!("[[workload]]\nname = \"{place}\"\nport = 1\n");
    let text: String = (0..65).map(rule).collect();
    check_refused(&text, "`workload` has 65 rules, at most 64 fit");
}

#[test]
fn every_kind_of_value_is_read() {
    let config = parse(
        "[export]\nlisten = \"[::]:80\"\nopentelemetry = true\n[limits]\nmodels = 3\n\
         [request]\nstalled_after = \"1m 30s\"\n[log]\nformat = \"json\"\n\
         [[workload]]\nname = \"chat\"\nport = 8080\nkind = \"llama_cpp\"",
    );
    assert_eq!(config.export.listen, "[::]:80".parse().unwrap());
    assert!(config.export.opentelemetry);
    assert_eq!(config.limits.models, 3);
    assert_eq!(config.request.stalled_after, Duration::from_secs(90));
    assert_eq!(config.log.format, logs::Format::Json);
    assert_eq!(config.workload[0].kind, Some(ServerKind::LlamaCpp));
    assert_eq!(config.slo.latency_thresholds()[0], Duration::from_millis(80));
}

#[test]
fn rooms_get_what_was_asked_for_them() {
    let config = parse(
        "export.native_histograms = true\nlimits.workloads = 2\nslo.p95_ttft_warning = \"1s\"\n\
         workload = [{ name = \"a\", port = 1, kind = \"openai\" }]",
    );
    let workloads = config.workloads();
    assert_eq!((workloads.rules, workloads.workloads_max), (config.workload.clone(), 2));
    let latency = config.latency();
    assert_eq!(latency.ttft_thresholds, [Duration::from_secs(1)]);
    assert_eq!(latency.duration_thresholds, [80, 100, 150].map(Duration::from_millis));
    assert!(latency.native_histograms && !latency.opentelemetry);
}

#[test]
fn flags_stand_over_environment_over_file() {
    let file = "export.listen = \"127.0.0.1:1\"\nlimits.models = 1";
    let environment = [("INFERSCOPE_EXPORT_LISTEN", "127.0.0.1:2"), ("INFERSCOPE_LIMITS_MODELS", "2")];
    let flags = [("--listen", "export", "listen", "127.0.0.1:3")];

    let listen = |sources: &Sources| {
        let config = Config::parse(file, sources).unwrap();
        (config.export.listen.port(), config.limits.models)
    };
    assert_eq!(listen(&sources(&[], &[])), (1, 1));
    assert_eq!(listen(&sources(&environment, &[])), (2, 2));
    assert_eq!(listen(&sources(&environment, &flags)), (3, 2));
}

#[test]
fn every_scalar_can_be_said_by_the_environment() {
    for (name, section, key) in keys::variables() {
        let default = Config::default().to_table()[section].get(key).cloned();
        let text = match default {
            Some(toml::Value::Boolean(_)) => "true".to_owned(),
            Some(toml::Value::Integer(_)) if key == "tokens_per_hour" => "7000".to_owned(),
            Some(toml::Value::Integer(_)) => "7".to_owned(),
            Some(toml::Value::Float(default)) => default.to_string(),
            Some(toml::Value::String(text)) => text,
            None if (section, key) == ("gpu", "library") => "/lib/libnvidia-ml.so.1".to_owned(),
            None if (section, key) == ("drift", "state") => "/var/lib/inferscope/state".to_owned(),
            None if section == "export" => "/etc/inferscope/of-the-endpoint".to_owned(),
            None if section == "canary" => "/etc/inferscope/of-the-canary".to_owned(),
            None => "300ms".to_owned(),
            Some(other) => panic!("{name} is no scalar: {other}"),
        };
        // Which it cannot be without.
        let file = "[canary]\nquestions = \"/q.csv\"\nmodel = \"m\"\n[export]\ntls_certificate = \"/c\"\ntls_key = \"/k\"";
        Config::parse(file, &sources(&[(&name, &text)], &[]))
            .unwrap_or_else(|error| panic!("{name}: {error:#}"));
    }
}

#[test]
fn environment_that_is_wrong_is_refused() {
    check_refused_variable(
        "INFERSCOPE_EXPORT_LISTN",
        "x",
        "unknown variable `INFERSCOPE_EXPORT_LISTN` in the environment: did you mean `INFERSCOPE_EXPORT_LISTEN`?",
    );
    check_refused_variable(
        "INFERSCOPE_EXPORT_LISTEN",
        "x",
        "INFERSCOPE_EXPORT_LISTEN: invalid socket address syntax",
    );
    check_refused_variable(
        "INFERSCOPE_EXPORT_OPENTELEMETRY",
        "yes",
        "INFERSCOPE_EXPORT_OPENTELEMETRY: `yes` is neither `true` nor `false`",
    );
    check_refused_variable(
        "INFERSCOPE_LIMITS_MODELS",
        "many",
        "INFERSCOPE_LIMITS_MODELS: `many` is not a whole number",
    );
    check_refused_variable(
        "INFERSCOPE_WORKLOAD_NAME",
        "a",
        "`INFERSCOPE_WORKLOAD_NAME` in the environment: `workload` is a list, write it in the file",
    );
    check_refused_variable(
        "INFERSCOPE_EXPORT_PORT",
        "9940",
        "unknown variable `INFERSCOPE_EXPORT_PORT` in the environment: did you mean `INFERSCOPE_EXPORT_LISTEN`?",
    );
}

#[test]
fn addresses_of_a_kubernetes_service_are_no_settings() {
    let links = [
        ("INFERSCOPE_SERVICE_HOST", "10.0.0.7"),
        ("INFERSCOPE_SERVICE_PORT", "9940"),
        ("INFERSCOPE_SERVICE_PORT_METRICS", "9940"),
        ("INFERSCOPE_PORT", "tcp://10.0.0.7:9940"),
        ("INFERSCOPE_PORT_9940_TCP", "tcp://10.0.0.7:9940"),
        ("INFERSCOPE_PORT_9940_TCP_PROTO", "tcp"),
        ("INFERSCOPE_PORT_9940_TCP_PORT", "9940"),
        ("INFERSCOPE_METRICS_PORT_9940_TCP_ADDR", "10.0.0.7"),
        ("HOME", "/root"),
    ];
    assert_eq!(Config::parse("", &sources(&links, &[])).unwrap(), Config::default());
}

#[test]
fn file_of_the_environment_is_read_unless_a_flag_names_one() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, models: usize| {
        let path = folder.path().join(name);
        std::fs::write(&path, format!("limits.models = {models}")).unwrap();
        path
    };
    let (one, two) = (file("one.toml", 1), file("two.toml", 2));
    let mut sources = sources(&[(PATH_VARIABLE, one.to_str().unwrap())], &[]);
    assert_eq!(Config::load(&sources).unwrap().limits.models, 1);
    sources.file = Some(two);
    assert_eq!(Config::load(&sources).unwrap().limits.models, 2);
}

#[test]
fn file_that_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("absent.toml");
    let absent = Sources { file: Some(path.clone()), ..Sources::default() };
    let error = format!("{:#}", Config::load(&absent).unwrap_err());
    assert!(error.starts_with(&format!("open configuration {}: No such file", path.display())), "{error}");

    std::fs::write(&path, vec![b'#'; 1 << 21]).unwrap();
    let error = format!("{:#}", Config::load(&absent).unwrap_err());
    assert!(error.ends_with("is larger than 1048576 bytes"), "{error}");

    std::fs::write(&path, "limits.models = 0").unwrap();
    let error = format!("{:#}", Config::load(&absent).unwrap_err());
    assert_eq!(error, format!("configuration {}: `limits.models` is 0, outside 1 to 256", path.display()));
}

#[test]
fn changes_say_what_a_reload_can_do() {
    let check = |text: &str, reloaded: &[&str], restart: &[&str]| {
        let changes = Config::default().changes(&parse(text));
        assert_eq!(changes.reloaded, reloaded, "{text}");
        assert_eq!(changes.restart, restart, "{text}");
    };
    check("", &[], &[]);
    check("export.listen = \"127.0.0.1:9940\"", &[], &[]);
    check("log.level = \"debug\"", &["log.level"], &[]);
    check("slo.p95_ttft_target = \"1s\"", &[], &["slo.p95_ttft_target"]);
    check(
        "export.listen = \"127.0.0.1:1\"\nworkload = [{ name = \"a\", port = 1 }]\nrequest.stalled_after = \"2s\"",
        &["request.stalled_after", "workload"],
        &["export.listen"],
    );
}

#[test]
fn reloaded_keys_exist() {
    let known: Vec<String> = keys::all();
    let sections = keys::sections();
    for key in RELOADED {
        assert!(
            known.iter().any(|each| each == key) || sections.iter().any(|section| section.name == key),
            "{key}"
        );
    }
}

#[test]
fn every_section_is_listed_with_its_keys() {
    let mut listed: Vec<&str> = keys::sections().iter().map(|section| section.name).collect();
    let mut derived = keys::fields::<Config>().to_vec();
    listed.sort_unstable();
    derived.sort_unstable();
    assert_eq!(listed, derived);
    assert!(keys::sections().iter().all(|section| !section.keys.is_empty()));
}

#[test]
fn effective_configuration_reads_as_itself() {
    let config = parse("slo.p95_ttft_target = \"1s\"\nworkload = [{ name = \"a\", port = 1 }]");
    assert_eq!(parse(&config.to_toml()), config);
}

/// The shipped file with `#key` lines made keys; only prose has a space after `#`.
fn shipped_uncommented() -> String {
    let lines = SHIPPED.lines().map(|line| match line.strip_prefix('#') {
        Some(key) if !key.is_empty() && !key.starts_with(' ') => key,
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn shipped_file_changes_nothing() {
    assert_eq!(parse(SHIPPED), Config::default());
}

#[test]
fn shipped_file_shows_every_key_with_its_default() {
    let shown: Table = shipped_uncommented().parse().unwrap();
    let defaults = Config::default().to_table();
    for key in keys::all() {
        let (section, name) = key.split_once('.').unwrap();
        let place = if section == "workload" { &shown[section][0] } else { &shown[section] };
        let shown = place.get(name).unwrap_or_else(|| panic!("deploy/inferscope.toml does not show `{key}`"));
        // Keys without a default show an example.
        if let Some(default) = value(&defaults, &key) {
            assert_eq!(shown, default, "`{key}` in deploy/inferscope.toml");
        }
    }
    parse(&shipped_uncommented());
}

#[test]
fn shipped_file_marks_what_a_reload_takes_over() {
    let marks = SHIPPED.lines().filter(|line| line.ends_with("[reload]")).count();
    assert_eq!(marks, RELOADED.len());
}
