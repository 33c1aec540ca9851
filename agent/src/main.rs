use inferscope::probe::Probe;
fn main() {
    let mut p = match Probe::start() { Ok(p) => p, Err(e) => { eprintln!("{e:?}"); return } };
    for h in p.hooks() { println!("{} {} {:?}", h.plan.program, h.plan.hook, h.absent); }
    for s in p.statistics() { println!("{s:?}"); }
    let tgid: u32 = std::env::args().nth(1).unwrap().parse().unwrap();
    p.tables.set_watched(tgid, true).unwrap();
    for port in std::env::args().skip(2) { p.tables.set_served(port.parse().unwrap(), true).unwrap(); }
    let _s = inferscope::probe::statistics::Sampling::start();
    for _ in 0..200 {
        std::thread::sleep(std::time::Duration::from_millis(50));
        for e in p.rings.drain_processes() { if e.kind != 1 { println!("{e:?}"); } }
        p.rings.drain_sockets(10000, |e| println!("{:?} {:?} {}", e.kind, e.event, String::from_utf8_lossy(e.head).escape_debug()));
    }
    for c in inferscope_common::counter::Counter::ALL { println!("{c:?} {}", p.tables.counter(c).unwrap()); }
    for s in p.statistics() { println!("{s:?}"); }
}
