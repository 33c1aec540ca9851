//! Are the dashboards what their source makes them; is every alert raised by its fault; and has every query of every panel data in a
//! real Prometheus?
//!
//! `UPDATE_GOLDEN=1` writes dashboards and the reference of metrics. Needs the builders of Grafana's schema, which
//! `cargo xtask setup` fetches; for alerts and queries root, the agent's binary, Prometheus with promtool, Alertmanager, and
//! ansible-rulebook with supervisor and Java.

#![allow(clippy::unwrap_used, reason = "a test says by a panic what went wrong")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use inferscope_tests::expression::names;
use inferscope_tests::prometheus::Prometheus;
use inferscope_tests::stack::remedy::Remedy;
use inferscope_tests::stack::rules::at_once;
use inferscope_tests::stack::run;
use inferscope_tests::stack::scene::Place;
use inferscope_tests::stack::services::Tools;
use inferscope_tests::stage::{Stage, tool, until};
use inferscope_tests::{recorded, reference, skip};
use serde_json::Value;

const SERVER: &str = env!("CARGO_BIN_EXE_inferscope-demo-server");
const WAIT_MAX: Duration = Duration::from_secs(30);
/// What Grafana puts in a query, and what is put there here. `$__range` is the dashboard's own.
const VARIABLES: [(&str, &str); 6] = [
    ("$__rate_interval", "5m"),
    ("$cluster", ".*"),
    ("$node", ".*"),
    ("$workload", ".*"),
    ("$model", ".*"),
    ("$price", "2"),
];

/// Families that are on a page only where something is in another's way.
const RARE: [&str; 3] =
    ["canary_wait_seconds_total", "drift_change_difference", "drift_requests_uncompared_total"];
/// Commands that runbooks have beside queries.
const COMMANDS: [&str; 5] = ["systemctl ", "journalctl ", "nvidia-smi ", "kubectl ", "inferscope "];

fn grafana() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/grafana")
}

/// The dashboards, by file.
fn dashboards() -> BTreeMap<String, Value> {
    let files = fs::read_dir(grafana().join("dashboards")).unwrap();
    files
        .map(|file| {
            let path = file.unwrap().path();
            let board = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            (path.file_name().unwrap().to_str().unwrap().to_owned(), board)
        })
        .collect()
}

#[test]
fn the_dashboards_are_what_their_source_makes_them() {
    let Some(python) = tool(Path::new(SERVER), "python/bin/python3") else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(python);
    command.arg("-B").arg(grafana().join("source/render.py")).arg(folder.path());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut made = BTreeSet::new();
    for file in fs::read_dir(folder.path()).unwrap() {
        let (path, name) = file.map(|file| (file.path(), file.file_name().into_string().unwrap())).unwrap();
        let shipped = grafana().join("dashboards").join(&name);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::copy(&path, &shipped).unwrap();
        }
        let same = fs::read(&path).unwrap() == fs::read(&shipped).unwrap_or_default();
        assert!(same, "{name} is not what deploy/grafana/source makes it: run with UPDATE_GOLDEN=1");
        made.insert(name);
    }
    assert_eq!(made, dashboards().into_keys().collect());
}

/// What `cargo xtask stack` shows, with the programs of the tests; and what its agent had on its page as history.
#[test]
fn every_alert_is_raised_by_its_fault_and_every_query_of_every_panel_has_data() {
    let Some(stage) = Stage::set(SERVER).unwrap() else { return };
    let programs = [
        "prometheus-2/prometheus",
        "prometheus-2/promtool",
        "alertmanager/prometheus-alertmanager",
        "remediation/bin/python3",
    ];
    let [Some(prometheus), Some(promtool), Some(alertmanager), Some(python)] =
        programs.map(|name| stage.tool(name))
    else {
        return;
    };
    let ansible = python.ancestors().nth(2).unwrap();
    if let Some(why) = Remedy::missing(ansible) {
        return skip(&why);
    }
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tools = Tools { prometheus: prometheus.clone(), alertmanager, deploy: tests.join("../deploy") };
    let place = Place {
        agent: stage.agent.clone(),
        programs: Path::new(SERVER).parent().unwrap().to_owned(),
        tests: tests.to_owned(),
        folder: stage.path().to_owned(),
    };
    let report = run(&tools, place, ansible).unwrap();
    println!("{report}");
    assert!(report.holds(), "{report}");
    let (first, last) = &report.pages;
    check_reference(last, &stage.agent);
    check_queries(&stage, &prometheus, &promtool, (first, last));
}

fn check_queries(stage: &Stage, prometheus: &Path, promtool: &Path, (first, last): (&str, &str)) {
    let folder = stage.path().join("history");
    fs::create_dir(&folder).unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let history = recorded::history(first, last, now).unwrap();
    recorded::write_blocks(promtool, &history, &folder, &folder.join("data")).unwrap();
    let rules = fs::read_to_string(grafana().join("../prometheus/rules/inferscope.yml")).unwrap();
    fs::write(folder.join("rules.yml"), at_once(&rules)).unwrap();
    let config = "global: { evaluation_interval: 1s }\nrule_files: [rules.yml]\n";
    let flags = ["--storage.tsdb.retention.time=60d"];
    let prometheus = Prometheus::start(prometheus, &folder, config, &flags).unwrap();
    let fires = || (!prometheus.query("ALERTS{alertstate=\"firing\"}").unwrap().is_empty()).then_some(());
    until(WAIT_MAX, fires).expect("an alert fires");
    let mut failed = Vec::new();
    let mut asked = 0;
    for (file, board) in dashboards() {
        for (place, query) in queries(&board) {
            asked += 1;
            match prometheus.query(&query) {
                Ok(found) if found.iter().any(|element| element.value.is_some_and(f64::is_finite)) => {}
                Ok(found) => failed.push(format!("{file}: {place}: {query}: {found:?}")),
                Err(error) => failed.push(format!("{file}: {place}: {error:#}")),
            }
        }
    }
    for (file, name) in read_elsewhere() {
        if prometheus.query(&name).unwrap().is_empty() {
            failed.push(format!("{file}: nothing is called {name}"));
        }
    }
    prometheus.stop().unwrap();
    let told = failed.join("\n");
    assert!(failed.is_empty() && asked > 150, "{} of {asked} have no data:\n{told}", failed.len());
}

/// `docs/metrics.md` has every family that this page or the golden one has, as they describe themselves; and no other but what
/// is rare, whose words the agent has, too.
fn check_reference(page: &str, agent: &Path) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let golden = fs::read_to_string(root.join("golden/metrics.txt")).unwrap();
    let mut found = reference::families(&[page, &golden]).unwrap();
    let path = root.join("../docs/metrics.md");
    let text = fs::read_to_string(&path).unwrap();
    let shipped = reference::read(&text);
    for (name, described) in &shipped {
        match found.get_mut(name) {
            // A label may be missing where nothing happened that it tells apart.
            Some(now) => now.labels.extend(described.labels.clone()),
            None => {
                assert!(RARE.contains(&name.as_str()), "docs/metrics.md: nothing is called {name}");
                let words = fs::read(agent).unwrap();
                let told = words.windows(described.help.len()).any(|part| part == described.help.as_bytes());
                assert!(told, "docs/metrics.md: the agent does not say of {name}: {}", described.help);
                found.insert(name.clone(), described.clone());
            }
        }
    }
    let (tables, unknown) = reference::tables(&found);
    assert_eq!(unknown, Vec::<String>::new(), "families without a section");
    let head = &text[..text.find("## ").unwrap_or(text.len())];
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, format!("{head}{tables}")).unwrap();
    } else {
        assert_eq!(found, shipped, "docs/metrics.md is not what pages say: UPDATE_GOLDEN=1 writes it");
        assert!(text == format!("{head}{tables}"), "docs/metrics.md: UPDATE_GOLDEN=1 writes its tables");
    }
}

/// Names of series that rules and runbooks read, with the file.
fn read_elsewhere() -> BTreeSet<(String, String)> {
    let deploy = grafana().join("..");
    let mut texts = vec![(
        "inferscope.yml".to_owned(),
        expressions(&fs::read_to_string(deploy.join("prometheus/rules/inferscope.yml")).unwrap()),
    )];
    for file in fs::read_dir(deploy.join("runbooks")).unwrap() {
        let (path, name) = file.map(|file| (file.path(), file.file_name().into_string().unwrap())).unwrap();
        let text = fs::read_to_string(path).unwrap();
        // What is further to the right is to be copied: queries, and here and there a command.
        let copied = text.lines().filter_map(|line| line.strip_prefix("    "));
        let queries = copied.filter(|line| !COMMANDS.iter().any(|command| line.starts_with(command)));
        texts.push((name, queries.collect::<Vec<_>>().join("\n")));
    }
    for name in ["keda.yaml", "prometheus-adapter.yaml"] {
        let text = fs::read_to_string(deploy.join("remediation/kubernetes").join(name)).unwrap();
        let queries = text.lines().filter_map(|line| {
            let (key, query) = line.trim().split_once(": ")?;
            ["query", "metricsQuery"].contains(&key).then_some(query)
        });
        texts.push((name.to_owned(), queries.collect::<Vec<_>>().join("\n")));
    }
    let names = |(file, text): (String, String)| {
        names(&text).into_iter().map(move |name| (file.clone(), name)).collect::<Vec<_>>()
    };
    texts.into_iter().flat_map(names).collect()
}

/// Those of a rule file: what is further to the right than the key.
fn expressions(rules: &str) -> String {
    let mut inside = false;
    let mut found = String::new();
    for line in rules.lines() {
        let depth = line.len() - line.trim_start().len();
        if inside && depth > 8 {
            found += line;
            found.push('\n');
        }
        inside = if line.trim() == "expr: |-" { true } else { inside && depth > 8 };
    }
    assert!(found.len() > 1_000, "{found}");
    found
}

/// Every query of a dashboard, its variables' included, with where it is.
fn queries(board: &Value) -> Vec<(String, String)> {
    let range = board["time"]["from"].as_str().unwrap().trim_start_matches("now-");
    let seconds = {
        let (number, unit) = range.split_at(range.len() - 1);
        let unit = match unit {
            "h" => 3_600,
            "d" => 86_400,
            other => panic!("a range of {other}"),
        };
        number.parse::<u64>().unwrap() * unit
    };
    let filled = |text: &str| {
        // The longer name first.
        let text = text.replace("$__range_s", &seconds.to_string()).replace("$__range", range);
        let text = VARIABLES.iter().fold(text, |text, (name, value)| text.replace(name, value));
        assert!(!text.contains('$'), "an unknown variable in {text}");
        text
    };
    let mut found = Vec::new();
    for panel in all_panels(board) {
        let title = panel["title"].as_str().unwrap_or_default();
        for target in panel["targets"].as_array().into_iter().flatten() {
            found.push((title.to_owned(), filled(target["expr"].as_str().unwrap())));
        }
    }
    for variable in board["templating"]["list"].as_array().unwrap() {
        let name = variable["name"].as_str().unwrap();
        let Some(query) = variable["query"].as_str().and_then(|query| query.strip_prefix("label_values("))
        else {
            continue;
        };
        let (selector, label) = query.trim_end_matches(')').rsplit_once(", ").unwrap();
        // Whoever has one cluster has no such label.
        let counted = if label == "cluster" {
            format!("count({selector})")
        } else {
            format!("count by ({label}) ({selector}) and on ({label}) {selector}{{{label}!=\"\"}}")
        };
        found.push((format!("variable {name}"), filled(&counted.replace("}{", ", "))));
    }
    found
}

/// Panels that stand alone, and those of rows.
fn all_panels(board: &Value) -> Vec<&Value> {
    let panels = board["panels"].as_array().unwrap();
    let of_rows = panels.iter().flat_map(|panel| panel["panels"].as_array().into_iter().flatten());
    panels.iter().chain(of_rows).collect()
}

#[test]
fn each_panel_says_what_it_is_and_each_dashboard_leads_to_the_others() {
    let boards = dashboards();
    let of = |key: &str| boards.values().map(|board| board[key].as_str().unwrap()).collect::<BTreeSet<_>>();
    assert_eq!((of("uid").len(), of("title").len()), (boards.len(), boards.len()));
    for (file, board) in &boards {
        assert_eq!(board["links"][0]["tags"][0], "inferscope", "{file}");
        assert_eq!(board["tags"][0], "inferscope", "{file}");
        for panel in all_panels(board) {
            assert!(panel["title"].as_str().is_some_and(|title| !title.is_empty()), "{file}: {panel}");
            // Nothing that Grafana no longer has.
            assert!(
                !["graph", "singlestat", "table-old", "heatmap-old"]
                    .contains(&panel["type"].as_str().unwrap())
            );
        }
    }
}
