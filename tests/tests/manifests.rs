//! Are the manifests of Kubernetes, kustomize's and Helm's, what their one source makes them?
//!
//! `UPDATE_GOLDEN=1` writes them. Whether Kubernetes takes them says its published schemas, which `cargo xtask setup` fetches. What takes their place in the chart is a value of `values.yaml` with the same default.

#![allow(clippy::unwrap_used, reason = "a test says by a panic what went wrong")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use inferscope_tests::stage::tool;

const SERVER: &str = env!("CARGO_BIN_EXE_inferscope-demo-server");
/// The oldest Kubernetes that knows every field, and the newest that the validator knows.
const KUBERNETES: [&str; 2] = ["1.30", "1.37"];
/// Kinds of others, whose schemas are not Kubernetes' own.
const FOREIGN: [&str; 2] = ["podmonitor.yaml", "prometheusrule.yaml"];
/// Placeholders of the source: what stands there in the base, and in the chart.
const PLACES: [(&str, &str, &str); 6] = [
    ("@namespace@", "inferscope", "{{ .Release.Namespace }}"),
    (
        "@image@",
        "inferscope:0.1.0",
        "\"{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}\"",
    ),
    ("@probe_scheme@", "HTTP", "{{ ternary \"HTTPS\" \"HTTP\" .Values.endpoint.tls }}"),
    ("@scrape_scheme@", "http", "{{ ternary \"https\" \"http\" .Values.endpoint.tls }}"),
    // A line that only the chart may have.
    (
        "@scrape_more@\n",
        "",
        "      {{- with .Values.podMonitor.endpoint }}\n      {{- toYaml . | nindent 6 }}\n      {{- end }}\n",
    ),
    ("@monitoring_namespace@", "monitoring", "{{ .Values.monitoringNamespace }}"),
];
/// Files of the chart that a value turns off.
const SWITCHES: [(&str, &str); 4] = [
    ("networkpolicy.yaml", ".Values.networkPolicy.enabled"),
    ("podmonitor.yaml", ".Values.podMonitor.enabled"),
    ("prometheusrule.yaml", ".Values.prometheusRule.enabled"),
    ("scc.yaml", ".Values.openshift.enabled"),
];
const RULES: &str = "files/inferscope.yml";

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

fn read(path: &str) -> String {
    fs::read_to_string(deploy().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Each line that is not empty, further to the right.
fn indented(text: &str, by: usize) -> String {
    let line = |line: &str| if line.is_empty() { String::new() } else { format!("{:by$}{line}", "") };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// The block of a value: what follows `key: |` in `values.yaml`.
fn default_of(key: &str) -> String {
    let values = read("helm/inferscope/values.yaml");
    let block = values.split(&format!("\n{key}: |\n")).nth(1).unwrap();
    let lines = block.lines().take_while(|line| line.is_empty() || line.starts_with("  "));
    let lines: Vec<&str> = lines.map(|line| line.trim_start_matches("  ")).collect();
    lines.join("\n").trim_end().to_owned()
}

fn rules() -> String {
    let rules = read("prometheus/rules/inferscope.yml");
    rules.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n")
}

/// Every file that is made, by its path below `deploy`.
fn rendered() -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let note = "# Made from deploy/kubernetes/source: change that.\n";
    for entry in fs::read_dir(deploy().join("kubernetes/source")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let source = read(&format!("kubernetes/source/{name}"));
        let (mut base, mut chart) = (source.clone(), source);
        for (place, plain, value) in PLACES {
            (base, chart) = (base.replace(place, plain), chart.replace(place, value));
        }
        base = base
            .replace("@config@", &indented(&default_of("config"), 4))
            .replace("@rules@", &indented(&rules(), 2));
        chart = chart
            .replace("@config@", "{{ .Values.config | indent 4 }}")
            .replace("@rules@", &format!("{{{{ .Files.Get \"{RULES}\" | indent 2 }}}}"));
        files.insert(format!("kubernetes/base/{name}"), format!("{note}{base}"));
        // A release's namespace is made by whoever installs it.
        if name != "namespace.yaml" {
            files.insert(
                format!("helm/inferscope/templates/{name}"),
                switched(&name, &format!("{note}{chart}")),
            );
        }
    }
    let scc = read("kubernetes/openshift/scc.yaml").replace(
        "serviceaccount:inferscope:inferscope",
        "serviceaccount:{{ .Release.Namespace }}:inferscope",
    );
    files.insert("helm/inferscope/templates/scc.yaml".to_owned(), switched("scc.yaml", &scc));
    files.insert(format!("helm/inferscope/{RULES}"), rules() + "\n");
    files
}

fn switched(name: &str, text: &str) -> String {
    match SWITCHES.iter().find(|(file, _)| *file == name) {
        Some((_, value)) => format!("{{{{- if {value} }}}}\n{text}{{{{- end }}}}\n"),
        None => text.to_owned(),
    }
}

#[test]
fn manifests_and_chart_are_made_from_one_source() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    for (path, text) in rendered() {
        assert!(
            !text.contains('@') || path.ends_with("prometheusrule.yaml"),
            "{path}: a place was left open"
        );
        if update {
            fs::write(deploy().join(&path), &text).unwrap();
        }
        assert!(read(&path) == text, "{path} is not what its source makes: UPDATE_GOLDEN=1 writes it");
    }
}

#[test]
fn the_published_schemas_of_kubernetes_take_the_manifests() {
    let Some(validator) = tool(Path::new(SERVER), "python/bin/kubernetes-validate") else { return };
    let mut files: Vec<PathBuf> = fs::read_dir(deploy().join("kubernetes/base"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name != "kustomization.yaml" && !FOREIGN.contains(&name)
        })
        .collect();
    files.push(deploy().join("remediation/kubernetes/hpa.yaml"));
    files.sort();
    assert_eq!(files.len(), 6, "{files:?}");
    for version in KUBERNETES {
        let output = Command::new(&validator)
            .args(["--strict", "--kubernetes-version", version])
            .args(&files)
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{version}: {}", String::from_utf8_lossy(&said));
    }
    // That it can fail.
    let folder = tempfile::tempdir().unwrap();
    let wrong = folder.path().join("wrong.yaml");
    fs::write(&wrong, read("kubernetes/base/daemonset.yaml").replace("hostPID: true", "hostPid: true"))
        .unwrap();
    assert!(!Command::new(&validator).arg("--strict").arg(&wrong).output().unwrap().status.success());
}
