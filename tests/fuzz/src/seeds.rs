//! Inputs that engine and tests begin with: real conversations, as the scripted server and client make them.

mod quality;

use std::fs;
use std::path::Path;

use inferscope_common::socket::SocketKind;
use inferscope_tests::client::{Planned, Source, planned};
use inferscope_tests::fake_server::{Ask, SCENARIOS, Step, plan, scenario};
use inferscope_tests::transcript::request_head;

use crate::talk::{Kernel, script};

/// Longest answer in a seed: of a longer one the first writes.
const WRITES_MAX: usize = 12;
const ANSWER_BYTES_MAX: usize = 6 << 10;
/// Longest file of numbers in a seed.
const NPY_BYTES_MAX: usize = 1 << 10;

/// What one client sends and its server writes, call by call.
pub(crate) struct Talk {
    pub(crate) name: String,
    pub(crate) head: Vec<u8>,
    pub(crate) body: Vec<u8>,
    pub(crate) writes: Vec<Vec<u8>>,
}

/// One conversation for each scenario, each with another kind of request.
pub(crate) fn talks() -> Vec<Talk> {
    let source = Source {
        seed: 11,
        requests: SCENARIOS.len(),
        mix: "chat-stream-usage=2,chat-stream-continuous-usage,chat-whole,completions-stream,completions-whole,\
              responses-stream,responses-whole,messages-stream,messages-whole,embeddings,logprobs-stream,\
              logprobs-whole,continue,health,models"
            .parse()
            .unwrap(),
        models: vec!["small".into(), "large/model-7b".into()],
        max_tokens: 8,
        prompt_bytes: 60,
        exact: false,
        scenarios: Vec::new(),
    };
    let names = SCENARIOS.iter().map(|(name, _)| *name);
    names.zip(planned(&source)).enumerate().map(|(number, (name, one))| talk(name, &one, number)).collect()
}

fn talk(name: &str, planned: &Planned, number: usize) -> Talk {
    let (head, body) = planned.bytes();
    let ask = Ask::new(&request_head(&head).unwrap().unwrap(), &body, number as u64);
    let answer = plan(&scenario(name, number as u64).unwrap().bounded(), &ask);
    let mut left = ANSWER_BYTES_MAX;
    let mut writes = Vec::new();
    for step in answer.steps {
        let Step::Write { pieces, .. } = step else { continue };
        let mut bytes = pieces.concat();
        bytes.truncate(left);
        left -= bytes.len();
        if !bytes.is_empty() && writes.len() < WRITES_MAX {
            writes.push(bytes);
        }
    }
    Talk { name: name.to_owned(), head, body, writes }
}

/// The seeds of a target, each with its name.
pub(crate) fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    match target {
        "answer" => quality::answer(),
        "btf" => btf(),
        "command" => command(),
        "config" => config(),
        "connection" => connection(),
        "credentials" => credentials(),
        "document" => document(),
        "framing" => framing(),
        "http" => http(),
        "json" => json(),
        "negotiate" => negotiate(),
        "node" => node(),
        "npy" => npy(),
        "questions" => quality::questions(),
        "results" => quality::results(),
        "ring" => ring(),
        "sse" => sse(),
        "state" => quality::state(),
        other => panic!("no seeds for {other}"),
    }
}

fn named(seeds: &[(&str, &[u8])]) -> Vec<(String, Vec<u8>)> {
    seeds.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())).collect()
}

/// No cuts, and a socket of TCP.
const AS_IT_IS: &[u8] = &[0, 0];

fn connection() -> Vec<(String, Vec<u8>)> {
    let whole = |talk: Talk| {
        let mut acts: Vec<(u8, &[u8])> = vec![(b'R', &talk.head)];
        acts.extend((!talk.body.is_empty()).then_some((b'R', &talk.body[..])));
        acts.extend(talk.writes.iter().map(|bytes| (b'W', &bytes[..])));
        acts.push((b'C', b""));
        (talk.name, [AS_IT_IS, &script(&acts)].concat())
    };
    let mut seeds: Vec<_> = talks().into_iter().map(whole).collect();
    let Some(talk) = talks().into_iter().find(|talk| talk.name == "rust") else { return seeds };
    let head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    let token = b"1f\r\ndata: {\"choices\":[{\"text\":\"a\"}]}\n\n\r\n";
    let (request, answer) = ([&talk.head[..], &talk.body].concat(), talk.writes.concat());
    let unix = &[1, 0][..];
    for (name, start, acts) in [
        ("pipelined", AS_IT_IS, &[(b'R', &request.repeat(2)[..]), (b'W', &answer.repeat(2))][..]),
        (
            "lost-write",
            AS_IT_IS,
            &[(b'R', &request), (b'W', head), (b'W', token), (b'L', token), (b'W', token)],
        ),
        ("lost-read", AS_IT_IS, &[(b'R', &talk.head), (b'l', &talk.body), (b'W', &answer), (b'R', &request)]),
        ("holes", AS_IT_IS, &[(b'g', &request), (b'G', &answer), (b'n', &request), (b'N', &answer)]),
        ("pieces", AS_IT_IS, &[(b'p', &request), (b'P', head), (b'S', token), (b'B', b""), (b'W', token)]),
        ("forgotten", AS_IT_IS, &[(b'R', &request), (b'F', b""), (b'R', &request), (b'W', &answer)]),
        ("peer-closed", unix, &[(b'R', &request), (b'W', head), (b'H', b""), (b'T', b"\x05"), (b'W', token)]),
        ("idle", AS_IT_IS, &[(b'R', &request), (b'T', b"\xf0"), (b'R', &request), (b'X', b"")]),
        ("tls", AS_IT_IS, &[(b'R', b"\x16\x03\x01\x02\x00\x01\x00"), (b'W', b"\x16\x03\x03")]),
        ("http2", AS_IT_IS, &[(b'R', b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), (b'W', b"\0\0\0\x04\0\0\0\0\0")]),
        (
            "upgrade",
            AS_IT_IS,
            &[
                (b'R', b"GET /ws HTTP/1.1\r\nupgrade: websocket\r\n\r\n"),
                (b'W', b"HTTP/1.1 101 Switching\r\nupgrade: websocket\r\n\r\n"),
            ],
        ),
    ] {
        seeds.push((name.to_owned(), [start, &script(acts)].concat()));
    }
    seeds
}

fn http() -> Vec<(String, Vec<u8>)> {
    let mut seeds = Vec::new();
    for (number, talk) in talks().into_iter().enumerate() {
        let cut = [1, number as u8 * 5, 0];
        seeds.push((format!("request-{}", talk.name), [&[0], &cut[..], &talk.head].concat()));
        if let Some(first) = talk.writes.first() {
            let first = &first[..first.len().min(400)];
            seeds.push((format!("response-{}", talk.name), [&[1], &cut[..], first].concat()));
        }
    }
    let traced = b"POST http://h/v1/completions/?a HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\
        traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\ncontent-encoding: br\r\n\r\n";
    seeds.push(("request-traced".to_owned(), [&[0, 0], &traced[..]].concat()));
    seeds
}

/// Small files of every kind of number, and those that nobody should read.
fn npy() -> Vec<(String, Vec<u8>)> {
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../drift-vectors");
    let mut seeds = Vec::new();
    for folder in ["good", "accuracy", "bad"] {
        for entry in fs::read_dir(vectors.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let bytes = fs::read(&path).unwrap();
            if bytes.len() <= NPY_BYTES_MAX {
                let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
                seeds.push((name, [&[9, 0][..], &bytes].concat()));
            }
        }
    }
    for (descr, numbers) in [("<f2", 2), (">f4", 4), ("<i8", 8), (">u2", 2), ("|b1", 1), ("|i1", 1)] {
        let header = format!("{{'descr': '{descr}', 'fortran_order': True, 'shape': (2, 3), }}\n");
        let length = (header.len() as u16).to_le_bytes();
        let start = [&b"\x02\0\x93NUMPY\x01\0"[..], &length, header.as_bytes()].concat();
        seeds.push((format!("kind-{}", &descr[1..]), [start, vec![1; 6 * numbers]].concat()));
    }
    seeds.sort();
    seeds
}

fn ring() -> Vec<(String, Vec<u8>)> {
    let mut seeds = Vec::new();
    for talk in talks() {
        let mut kernel = Kernel::new(3, talk.name == "python");
        let mut entries = vec![kernel.entry(SocketKind::Read, &[&talk.head[..], &talk.body].concat(), 0)];
        entries.extend(talk.writes.iter().take(4).map(|bytes| kernel.entry(SocketKind::Write, bytes, 0)));
        let end = if talk.name == "rust" { SocketKind::Reset } else { SocketKind::Closed };
        entries.push(kernel.entry(end, b"", 0));
        entries.push(vec![0; 9]);
        let bytes =
            entries.iter().flat_map(|entry| [&(entry.len() as u16).to_le_bytes()[..], entry].concat());
        seeds.push((talk.name, bytes.collect()));
    }
    seeds
}

/// Bodies of answers: whole ones, and with the framing of chunks.
fn bodies() -> impl Iterator<Item = (String, Vec<u8>, bool)> {
    talks().into_iter().filter_map(|talk| {
        let bytes = talk.writes.concat();
        let end = bytes.windows(4).position(|part| part == b"\r\n\r\n")? + 4;
        let chunked = String::from_utf8_lossy(&bytes[..end]).contains("chunked");
        (end < bytes.len()).then(|| (talk.name, bytes[end..].to_vec(), chunked))
    })
}

fn framing() -> Vec<(String, Vec<u8>)> {
    let mut seeds: Vec<_> = bodies()
        .filter(|(_, _, chunked)| *chunked)
        .map(|(name, body, _)| (name, [&[2, 40, 0, 30, 1, 9, 0][..], &body].concat()))
        .collect();
    seeds.extend(named(&[
        ("length", b"\0\x05\0\x02\0\x01\0hello and more"),
        ("until-close", b"\x01\0\0\0\0\0all of it"),
        ("extension", b"\x02\0\0\0\0\x003;a=b\r\nabc\r\n0 \r\nx: 1\r\n\r\nrest"),
        ("missed-border", b"\x02\x02\0\x09\x01\x04\0a\r\ndata: a\n\n\r\na\r\ndata: b\n\n\r\n0\r\n\r\n"),
        ("broken", b"\x02\0\0\0\0\x003\r\nabcd\r\nxyz\r\n"),
    ]));
    seeds
}

/// Requests and answers that are JSON.
fn documents() -> Vec<(String, Vec<u8>)> {
    let requests = talks().into_iter().filter(|talk| !talk.body.is_empty());
    let mut all: Vec<_> = requests.map(|talk| (format!("request-{}", talk.name), talk.body)).collect();
    let answers = bodies().filter(|(_, body, _)| body.starts_with(b"{"));
    all.extend(
        answers.map(|(name, body, _)| (format!("answer-{name}"), body[..body.len().min(2000)].to_vec())),
    );
    all
}

fn json() -> Vec<(String, Vec<u8>)> {
    let cut = |(name, body): (String, Vec<u8>)| (name, [&[1, 25, 0][..], &body].concat());
    let mut seeds: Vec<_> = documents().into_iter().map(cut).collect();
    seeds.extend(named(&[
        ("kinds", br#"\0{"a":[1,-2.5e+3,true,false,null,"\u00e9\"\\\\"],"mod\u0065l":"m","":{}}"#),
        ("deep", b"\0[[[[[[[[[[[[[[{\"a\":[[[[]]]]}]]]]]]]]]]]]]]"),
        ("broken", b"\0{\"a\":1,}"),
        ("python", b"\0[NaN,-Infinity]"),
    ]));
    seeds
}

fn document() -> Vec<(String, Vec<u8>)> {
    let holed = |(name, body): (String, Vec<u8>)| {
        let from = (body.len() / 3) as u16;
        (name, [&from.to_le_bytes()[..], &[60, 0, 1, 30, 0], &body].concat())
    };
    let mut seeds: Vec<_> = documents().into_iter().map(holed).collect();
    seeds.extend(named(&[(
        "forged",
        br#"\x20\0\x04\0\0{"messages":[{"content":"aa\\\",\"model\":\"forged\",\\\\\""}],"model":"true"}"#,
    )]));
    seeds
}

fn sse() -> Vec<(String, Vec<u8>)> {
    let streams = bodies().filter(|(_, body, chunked)| *chunked && !body.is_empty());
    let data = |(name, body, _): (String, Vec<u8>, bool)| {
        // The lines of the chunks are no events, and are as good as any comment.
        (name, [&[1, 70, 0][..], &body[..body.len().min(3000)]].concat())
    };
    let mut seeds: Vec<_> = streams.map(data).collect();
    seeds.extend(named(&[
        ("fields", b"\0: c\nevent: error\nid: 1\nretry: 5\ndata: {\ndata: \"a\":1}\n\nerror:{\"m\":1}\r\n\r\n"),
        ("done", b"\0data: {\"choices\":[{\"text\":\"a\"}]}\n\ndata: [DONE]\n\n"),
        ("odd", b"\0data\n\ndata:\n\n:data: x\n\n data: y\n\n"),
        (
            "typed",
            b"\0event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"a\"}\n\n\
              data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":4}}\n\n",
        ),
    ]));
    seeds
}

/// The type information of a small kernel: two tracepoints and a struct in a struct.
fn btf() -> Vec<(String, Vec<u8>)> {
    let strings =
        b"\0btf_trace_sched_switch\0sock\0__sk_common\0skc_family\0sock_common\0int\0tgid\0task_struct\0f\0iter_type\0ITER_UBUF\0";
    let name = |text: &str| {
        let text = [text.as_bytes(), b"\0"].concat();
        strings.windows(text.len()).position(|part| part == text).unwrap() as u32
    };
    let kind = |kind: u32, count: u32| kind << 24 | count;
    let types: Vec<u32> = [
        &[name("int"), kind(1, 0), 4, 32][..],
        &[name("btf_trace_sched_switch"), kind(8, 0), 10],
        &[name("sock_common"), kind(4, 1), 16, name("skc_family"), 1, 128],
        &[name("sock"), kind(4, 1), 64, name("__sk_common"), 3, 0],
        // A member without a name, whose own are its struct's.
        &[name("task_struct"), kind(4, 1) | 1 << 31, 64, 0, 6, 64],
        &[0, kind(5, 1), 8, name("tgid"), 1, 0],
        // The tracepoint's function: of itself, and a pointer to a struct.
        &[0, kind(13, 2), 1, 0, 1, 0, 9],
        &[0, kind(3, 0), 0, 1, 1, 4],
        &[0, kind(2, 0), 4],
        &[0, kind(2, 0), 7],
        &[name("f"), kind(12, 0), 7],
        &[name("iter_type"), kind(6, 1), 4, name("ITER_UBUF"), 0],
    ]
    .concat();
    let types: Vec<u8> = types.iter().flat_map(|word| word.to_le_bytes()).collect();
    let mut bytes = vec![0x9f, 0xeb, 1, 0];
    for word in [24, 0, types.len(), types.len(), strings.len()] {
        bytes.extend((word as u32).to_le_bytes());
    }
    let whole = [bytes, types, strings.to_vec()].concat();
    named(&[("small", &whole), ("cut", &whole[..70])])
}

fn command() -> Vec<(String, Vec<u8>)> {
    named(&[
        ("vllm", b"/opt/venv/bin/python3\0-u\0-X\0dev\0/opt/venv/bin/vllm\0serve\0m\0--port\x008123\0--config=c.yaml\0"),
        ("module", b"python3.12\0-Im\0vllm.entrypoints.openai.api_server\0--uds\0/run/a.sock\0"),
        ("sglang", b"python\0-m\0sglang.launch_server\0--port=1\0"),
        ("llama", b"/app/llama-server\0-m\0m.gguf\0\0\0"),
        ("ilab", b"ilab\0--config\0c\0-v\0model\0serve\0"),
        ("shell", b"sh\0-c\0vllm serve m\0"),
        ("title", b"VLLM::EngineCore_0\0\0\0\0"),
        ("pod", b"llama-3-55b8c7d9f4-bcdfg"),
    ])
}

fn config() -> Vec<(String, Vec<u8>)> {
    named(&[
        ("shipped", include_bytes!("../../../deploy/inferscope.toml")),
        ("all", inferscope::config::Config::default().to_toml().as_bytes()),
        ("rule", b"workload = [{ name = \"a\", command_regex = 'x.*y$', port = 8000, unit = \"u.service\", kind = \"vllm\" }]\n"),
        ("tables", b"[[workload]]\nname = \"seed-1\"\ncgroup = \"/a\"\n[request]\nstalled_after = \"5s\"\n"),
        ("unknown", b"[exports]\nlisten = 1\n[slo]\np95_ttft_target = \"1s\"\np95_ttft_warning = \"1ms\"\n"),
        ("variable", b"[limits]\nmodels = 3\n\x00127.0.0.1:1\0EXPORT_LISTEN"),
        ("service-link", b"\0tcp://10.0.0.1:80\0PORT_80_TCP_ADDR"),
    ])
}

fn credentials() -> Vec<(String, Vec<u8>)> {
    named(&[
        ("bearer", b"\0Bearer 0123456789abcdef0123456789abcdef"),
        ("basic", b"\0basic  YW5uOnNlc2FtZTpvcGVu"),
        ("odd", b"\0Digest username=\"ann\", realm=\"inferscope\""),
        ("no-base64", b"\0Basic YW5uO!"),
        ("tokens", b"\x01# new\n0123456789abcdef-new\r\n\n 0123456789.abcdef~old= \n"),
        ("short-token", b"\x01short\n"),
        ("users", b"\x02# scrapers\nann:$2y$05$abcdefghijklmnopqrstuuYoA/Ig5dOcHJ1Uzls.zCgSC7r9v4W76\nbob:$2b$10$abcdefghijklmnopqrstuuYoA/Ig5dOcHJ1Uzls.zCgSC7r9v4W76\n"),
        ("other-hash", b"\x02ann:$apr1$0123$456789\n"),
    ])
}

fn negotiate() -> Vec<(String, Vec<u8>)> {
    named(&[
        ("prometheus-2", b"\0application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"),
        ("prometheus-3", b"\x01application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.7,application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,*/*;q=0.2"),
        ("browser", b"\x01text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
        ("odd", b"\0Application/OpenMetrics-Text; Version=\"1.0.0\" ;q=7,;;=,q, text/*;q=1e-1"),
    ])
}

fn node() -> Vec<(String, Vec<u8>)> {
    let id = "4f8c2a1e9b7d6053c4f8c2a1e9b7d6053c4f8c2a1e9b7d6053c4f8c2a1e9b7d6";
    let uid = "2f1b3c4d_5e6f_7a8b_9c0d_1e2f3a4b5c6d";
    let pod = format!("g0::/kubepods.slice/kubepods-burstable-pod{uid}.slice/cri-containerd-{id}.scope\n");
    let v1 =
        format!("g11:cpu,cpuacct:/kubepods/pod{}/{id}\n1:name=systemd:/a\n0::/\n", uid.replace('_', "-"));
    let event = |kind: u32, tgid: u32, parent: u32, port: u32| {
        let words = [7, 0, kind, tgid, parent, port].map(u32::to_ne_bytes).concat();
        // The letter of no file.
        [words, b"\xff".to_vec()].concat()
    };
    let events = [event(1, 100, 0, 0), event(2, 101, 100, 0), event(4, 101, 0, 8001), event(3, 100, 0, 0)];
    named(&[
        ("usual", b""),
        ("pod", pod.as_bytes()),
        ("v1", v1.as_bytes()),
        ("events", &events.concat()),
        ("unix", b"cpython3\0/usr/bin/vllm\0serve\0--uds\0/run/a.sock\0\xffe\xffuNum\n0: 2 0 00010000 0001 01 8 /run/a.sock\n"),
        ("zombie", b"s100 (a (b) c) Z 1 1 1 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 500 1 1 1\n"),
        ("other", b"c/bin/sleep\x009\0\xfft\xffn\n"),
    ])
}
