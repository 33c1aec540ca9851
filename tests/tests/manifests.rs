//! Are the manifests of Kubernetes, kustomize's and Helm's, what their one source makes them, and do their own tools take them?
//!
//! `UPDATE_GOLDEN=1` writes them. Whether Kubernetes takes them say its published schemas, of the variants as kustomize builds them; the unit of
//! Podman is made by its own generator. `cargo xtask setup --tests` fetches these. What takes their place in the chart is a value of `values.yaml`
//! with the same default.

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
const FOREIGN_KINDS: [&str; 3] = ["PodMonitor", "PrometheusRule", "SecurityContextConstraints"];
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
const CHART: &str = "helm/inferscope";
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

/// What the validator says of files, for one version; `Ok` where it takes them.
fn validate(validator: &Path, version: &str, files: &[PathBuf]) -> Result<(), String> {
    let mut command = Command::new(validator);
    command.args(["--strict", "--kubernetes-version", version]).args(files);
    succeeded(&mut command).map(drop)
}

/// What a program wrote, or what it said where it failed.
fn succeeded(command: &mut Command) -> Result<String, String> {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(text(&[output.stdout, output.stderr].concat()))
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
        assert_eq!(validate(&validator, version, &files), Ok(()), "{version}");
    }
    // That it can fail.
    let folder = tempfile::tempdir().unwrap();
    let wrong = folder.path().join("wrong.yaml");
    fs::write(&wrong, read("kubernetes/base/daemonset.yaml").replace("hostPID: true", "hostPid: true"))
        .unwrap();
    assert!(validate(&validator, KUBERNETES[1], &[wrong]).is_err());
}

/// The objects that kustomize makes of a folder, by their kinds.
fn built(kustomize: &Path, folder: &Path) -> BTreeMap<String, String> {
    let text = succeeded(Command::new(kustomize).arg("build").arg(folder)).unwrap();
    let objects = text.split("---\n").map(|object| {
        let kind = object.lines().find_map(|line| line.strip_prefix("kind: ")).unwrap();
        (kind.to_owned(), object.to_owned())
    });
    objects.collect()
}

#[test]
fn kustomize_builds_every_variant_and_the_schemas_take_them() {
    let server = Path::new(SERVER);
    let Some(kustomize) = tool(server, "kustomize/kustomize") else { return };
    let Some(validator) = tool(server, "python/bin/kubernetes-validate") else { return };
    let variant = |name: &str| built(&kustomize, &deploy().join("kubernetes").join(name));
    let base = variant("base");
    let folder = tempfile::tempdir().unwrap();
    // What each changes, and how much it adds.
    let variants = [
        ("openshift", "NetworkPolicy", "openshift-user-workload-monitoring", 1),
        ("privileged", "DaemonSet", "privileged: true", 0),
    ];
    for (name, changed, by, more) in variants {
        let objects = variant(name);
        let other = |kind: &&String| base.get(*kind).is_some_and(|object| *object != objects[*kind]);
        assert_eq!(objects.keys().filter(other).collect::<Vec<_>>(), [changed], "{name}");
        assert_eq!(objects.len(), base.len() + more, "{name}");
        let (before, after) = (&base[changed], &objects[changed]);
        assert!(after.contains(by) && !before.contains(by), "{name}: {after}");
        let own = objects.iter().filter(|(kind, _)| !FOREIGN_KINDS.contains(&kind.as_str()));
        let files: Vec<PathBuf> = own
            .map(|(kind, object)| {
                let file = folder.path().join(format!("{name}-{kind}.yaml"));
                fs::write(&file, object).unwrap();
                file
            })
            .collect();
        assert_eq!(files.len(), 5, "{files:?}");
        for version in KUBERNETES {
            assert_eq!(validate(&validator, version, &files), Ok(()), "{name} {version}");
        }
    }
}

/// What helm makes of the chart with these values, written as kustomize writes it: there are many ways to write one thing.
fn templated(helm: &Path, kustomize: &Path, values: &[&str]) -> BTreeMap<String, String> {
    let mut template = Command::new(helm);
    template.arg("template").arg("inferscope").arg(deploy().join(CHART)).args(["--namespace", "inferscope"]);
    let text = succeeded(template.args(values.iter().flat_map(|value| ["--set", value]))).unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("all.yaml"), text).unwrap();
    fs::write(folder.path().join("kustomization.yaml"), "resources: [all.yaml]\n").unwrap();
    built(kustomize, folder.path())
}

#[test]
fn helm_makes_of_the_chart_what_the_base_is() {
    let server = Path::new(SERVER);
    let Some(helm) = tool(server, "python/bin/helm") else { return };
    let Some(kustomize) = tool(server, "kustomize/kustomize") else { return };
    let Some(validator) = tool(server, "python/bin/kubernetes-validate") else { return };
    succeeded(Command::new(&helm).args(["lint", "--strict"]).arg(deploy().join(CHART))).unwrap();
    let variant = |name: &str| {
        let mut objects = built(&kustomize, &deploy().join("kubernetes").join(name));
        // A release's namespace is made by whoever installs it.
        objects.remove("Namespace").unwrap();
        objects
    };
    let template = |values: &[&str]| templated(&helm, &kustomize, values);
    let base = template(&[]);
    assert_eq!(base, variant("base"));
    let openshift = ["openshift.enabled=true", "monitoringNamespace=openshift-user-workload-monitoring"];
    assert_eq!(template(&openshift), variant("openshift"));

    let secured = template(&["endpoint.tls=true", "image.repository=images.example/i", "image.tag=7"]);
    let daemonset = &secured["DaemonSet"];
    assert_eq!(daemonset.matches("scheme: HTTPS\n").count(), 2, "{daemonset}");
    assert!(daemonset.contains("image: images.example/i:7\n"), "{daemonset}");
    assert!(secured["PodMonitor"].contains("scheme: https\n"), "{}", secured["PodMonitor"]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("daemonset.yaml");
    fs::write(&file, daemonset).unwrap();
    assert_eq!(validate(&validator, KUBERNETES[1], &[file]), Ok(()));

    for (value, kind) in [
        ("networkPolicy.enabled=false", "NetworkPolicy"),
        ("podMonitor.enabled=false", "PodMonitor"),
        ("prometheusRule.enabled=false", "PrometheusRule"),
    ] {
        let mut without = base.clone();
        without.remove(kind).unwrap();
        assert_eq!(template(&[value]), without, "{value}");
    }
}

#[test]
fn an_image_is_set_as_the_base_says() {
    let Some(kustomize) = tool(Path::new(SERVER), "kustomize/kustomize") else { return };
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(deploy().join("kubernetes/base")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    let image = "inferscope=images.example/inferscope:7";
    let mut set = Command::new(&kustomize);
    succeeded(set.args(["edit", "set", "image", image]).current_dir(folder.path())).unwrap();
    let daemonset = &built(&kustomize, folder.path())["DaemonSet"];
    assert!(daemonset.contains("image: images.example/inferscope:7\n"), "{daemonset}");
}

/// The unit that Podman makes of the quadlet says what the container may.
#[test]
fn podman_makes_a_unit_of_the_quadlet() {
    let Some(quadlet) = tool(Path::new(SERVER), "podman/quadlet") else { return };
    let folder = tempfile::tempdir().unwrap();
    let generated = |container: &str| {
        fs::write(folder.path().join("inferscope.container"), container).unwrap();
        let output =
            Command::new(&quadlet).arg("-dryrun").env("QUADLET_UNIT_DIRS", folder.path()).output().unwrap();
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let container = read("podman/inferscope.container");
    let (unit, said) = generated(&container);
    let begin = unit.lines().find(|line| line.starts_with("ExecStart=")).unwrap_or_else(|| panic!("{said}"));
    for option in [
        "--cap-drop all --cap-add cap_bpf --cap-add cap_perfmon --cap-add cap_sys_ptrace --cap-add cap_dac_read_search ",
        "--security-opt=no-new-privileges",
        "--security-opt seccomp=unconfined",
        "--security-opt label=disable",
        "--network host",
        "--pid=host",
        "--read-only ",
        "-v /sys/fs/cgroup:/host/cgroup:ro",
        "--device nvidia.com/gpu=all",
        "--sdnotify=container",
    ] {
        assert!(begin.contains(option), "{option} is not in {begin}");
    }
    for line in ["Type=notify", "Restart=always", "RestartPreventExitStatus=2", "MemoryMax=384M"] {
        assert!(unit.lines().any(|one| one == line), "{line} is not in {unit}");
    }
    // That it can fail.
    let (unit, said) = generated(&container.replace("ReadOnly=", "ReadsOnly="));
    assert!(said.contains("unsupported key 'ReadsOnly'") && !unit.contains("ExecStart="), "{said}{unit}");
}
