//! How is it wired? Owns the state of all rooms, lists the signals, and hands on; no other logic.
//!
//! One task owns everything that changes, so nothing here takes a lock. It looks at the rings at a steady
//! pace; the HTTP server runs on threads of its own and reads atomics.

mod account;
mod beat;
mod follow;
mod signals;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use inferscope_common::process::{ProcessEvent, ProcessKind};
use inferscope_common::stall::{STALLS_BYTES, StallEvent, Thread};
use tokio::net::TcpListener;
use tracing::{debug, info, warn};

use beat::{Beat, Due};

use crate::blame::{Blame, Known};
use crate::cgroup::Watch;
use crate::cli::Start;
use crate::clock::BootTime;
use crate::config::Config;
use crate::engine::Engines;
use crate::export::{self, Shared};
use crate::gpu::Gpus;
use crate::health::{Health, SignalState};
use crate::lifecycle::privileges::{Needs, confine};
use crate::lifecycle::{Lifecycle, LifecycleEvent, STOP_WITHIN, ServiceManager};
use crate::probe::Probe;
use crate::probe::ring::Bell;
use crate::quality::Quality;
use crate::request::record::{Observation, OpenRequest};
use crate::request::{Connections, Follow};
use crate::serving::{why_down, why_stalled};
use crate::signal::{Signal, Tick};
use crate::workload::labels::ModelLabels;
use crate::workload::node::Roots;
use crate::workload::{WorkloadState, Workloads};

/// Pace at which the rings are looked at: what a record waits at most, and 20 wake-ups a second. A process that
/// comes wakes the agent at once.
const DRAIN_EVERY: Duration = Duration::from_millis(50);
/// Socket events between two looks at the process ring.
const DRAIN_EVENTS: usize = 4096;
/// Rounds of so many events at one look, at most: what a flood keeps full must not keep the agent from its
/// ticks, nor from being told to stop.
const DRAIN_ROUNDS: usize = 64;
/// Stalls taken at one look: all that the ring holds.
const DRAIN_STALLS: usize = STALLS_BYTES as usize / size_of::<StallEvent>();
/// Ends of processes that wait until what the processes did is taken; beyond that they do not wait.
const EXITS_MAX: usize = 1024;
/// Pace of the signals' tick.
const TICK_EVERY: Duration = Duration::from_secs(1);
/// Pace of the look at the whole of `/proc`, for what the process events did not tell.
const SCAN_EVERY: Duration = Duration::from_secs(10);
/// Threads of the HTTP server. The pipeline has the main thread for itself, and a runtime of its own: in a
/// shared one a thread of the server keeps the time, and each look at the rings wakes that one, too.
const SERVER_THREADS: usize = 2;

/// Runs the agent until it is told to stop.
///
/// # Errors
/// Something it needs at its start is missing.
pub fn run(start: Start) -> Result<()> {
    let Start { config, sources, log, access, lock: _lock } = start;
    let own = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the pipeline's clock")?;
    let inside = own.enter();
    let lifecycle = Lifecycle::listen()?;
    let manager = ServiceManager::of_process();
    let listener = listen(&config)?;
    let (mut pipeline, shared) = Pipeline::new(&config)?;
    let bell = pipeline.probe.rings.process_bell()?;
    let happens = Happens { lifecycle, bell, beat: Beat::every(DRAIN_EVERY)? };
    drop(inside);
    // All that takes rights is done, and no second thread has begun: those of the server get what is left.
    let (connects, keeps) = (config.engine.metrics || config.canary.enabled, pipeline.quality.keeps());
    let needs = Needs { connects, devices: config.gpu.enabled, keeps, ..Needs::default() };
    shared.health.set_sandbox(confine(&config.sandbox, needs)?);
    pipeline.groups.start()?;
    pipeline.gpus.start(&config.gpu)?;
    pipeline.quality.start(&config.drift, &config.mmlu, &config.canary)?;
    let server = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(SERVER_THREADS)
        .enable_all()
        .build()
        .context("start the threads of the server")?;
    let entered = server.enter();
    pipeline.engines.start(&config.engine);
    drop(entered);
    access.tell();
    info!("serving {}", access.url());
    let served_by = access.clone();
    let reload = move |running: &mut Config| {
        access.read_again();
        account::reload(running, &sources, &log)
    };
    let measure = async {
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let served = server.spawn(async {
            // A sender that is gone is a pipeline that has ended: the same.
            let ended = async { drop(stopped.await) };
            export::serve(TcpListener::from_std(listener)?, shared, served_by, ended).await
        });
        pipeline.run(config, happens, manager, reload).await;
        let _server_gone = stop.send(());
        match tokio::time::timeout(STOP_WITHIN / 2, served).await {
            Ok(served) => served.context("the server's task")?,
            // Clients that keep their connection open are cut off.
            Err(_late) => Ok(()),
        }
    };
    let result = own.block_on(measure);
    server.shutdown_timeout(STOP_WITHIN / 2);
    result
}

fn listen(config: &Config) -> Result<std::net::TcpListener> {
    let address = config.export.listen;
    let listener = std::net::TcpListener::bind(address)
        .with_context(|| format!("listen on {address} (export.listen); another program may have it"))?;
    listener.set_nonblocking(true).context("prepare the http listener")?;
    Ok(listener)
}

/// What the pipeline waits for.
struct Happens {
    lifecycle: Lifecycle,
    bell: Bell,
    beat: Beat,
}

/// The state of all rooms.
struct Pipeline {
    probe: Probe,
    workloads: Workloads,
    models: ModelLabels,
    connections: Connections,
    blame: Blame,
    engines: Engines,
    groups: Watch,
    gpus: Gpus,
    quality: Quality,
    signals: Vec<Box<dyn Signal>>,
    health: Health,
    account: account::Account,
    observations: Vec<Observation>,
    ignored: Vec<u64>,
    /// Processes that ended; what they did before may still wait in the ring.
    exits: Vec<ProcessEvent>,
}

impl Pipeline {
    fn new(config: &Config) -> Result<(Self, Arc<Shared>)> {
        let now = BootTime::now();
        let (quality, learnt) = Quality::open(&config.drift, &config.canary)?;
        let (signals, shared) = signals::all(config, now, learnt);
        let mut pipeline = Self {
            probe: Probe::start(&config.kernel.socket_hook.families())?,
            workloads: Workloads::new(config.workloads(), Roots::default())?,
            models: ModelLabels::new(config.limits.models),
            connections: Connections::new(config.request.clone()),
            blame: Blame::new(config.slow.clone(), now),
            engines: Engines::default(),
            groups: Watch::new(Roots::default().proc),
            gpus: Gpus::default(),
            quality,
            signals,
            health: shared.health.clone(),
            account: account::Account::new(config.sandbox.program_statistics),
            observations: Vec::new(),
            ignored: Vec::new(),
            exits: Vec::new(),
        };
        if let Some(mark) = pipeline.quality.mark() {
            pipeline.connections.set_own(mark.into());
        }
        for signal in &pipeline.signals {
            pipeline.health.set_signal(signal.name(), SignalState::Ok);
        }
        pipeline.health.set_probes(account::probe_states(pipeline.probe.outcomes()));
        pipeline.scan();
        pipeline.health.set_scanned();
        pipeline.tick();
        Ok((pipeline, Arc::new(shared)))
    }

    async fn run(
        mut self,
        mut config: Config,
        mut happens: Happens,
        manager: ServiceManager,
        reload: impl Fn(&mut Config) -> Result<()>,
    ) {
        manager.ready(&account::summary(&self.probe, &self.workloads));
        let (mut tick, mut scan) = (Due::every(TICK_EVERY), Due::every(SCAN_EVERY));
        loop {
            tokio::select! {
                biased;
                event = happens.lifecycle.next() => match event {
                    LifecycleEvent::Stop => break,
                    LifecycleEvent::Reload => {
                        manager.reloading();
                        self.reload(&mut config, &reload);
                        manager.ready(&account::summary(&self.probe, &self.workloads));
                    }
                },
                () = happens.bell.rung() => {
                    self.drain();
                }
                () = happens.beat.next() => {
                    let now = Instant::now();
                    if scan.is_over(now) {
                        self.scan();
                    }
                    if tick.is_over(now) {
                        self.tick();
                        manager.alive();
                    } else {
                        self.drain();
                    }
                }
            }
        }
        info!("stopping");
        manager.stopping();
        self.drain();
    }

    fn reload(&mut self, config: &mut Config, reload: impl Fn(&mut Config) -> Result<()>) {
        let applied = reload(config).and_then(|()| {
            self.connections.set_stalled_after(config.request.stalled_after);
            self.blame.set_settings(config.slow.clone());
            self.workloads.reload(config.workloads())
        });
        // Before it is told: what the new rules find is followed then.
        self.scan();
        match applied {
            Ok(()) => info!("configuration read again"),
            Err(error) => warn!("the configuration stays as it was: {error:#}"),
        }
    }

    /// Takes what waits in both rings: first who is there, then what they did, then who has gone. False where
    /// more comes than can be taken.
    fn drain(&mut self) -> bool {
        self.take_stalls();
        for _ in 0..DRAIN_ROUNDS {
            self.take_processes();
            let taken = self.take_sockets();
            self.hand_on();
            if taken < DRAIN_EVENTS {
                let now = BootTime::now();
                self.connections.on_all_taken(now, &mut self.models, &mut self.observations);
                self.end_exited();
                return true;
            }
        }
        false
    }

    fn take_processes(&mut self) {
        for event in self.probe.rings.drain_processes() {
            self.account.process_events += 1;
            let exit = event.kind == ProcessKind::Exit as u32;
            let ended = self.exits.iter().any(|gone| gone.tgid == event.tgid);
            // A process that ends closes its listeners after its end was told; what it did before is not all taken yet.
            if ended && event.kind == ProcessKind::Unlisten as u32 {
                continue;
            }
            // The number of a process that has ended may be given again.
            if ended || self.exits.len() >= EXITS_MAX {
                self.end_exited();
            }
            if exit { self.exits.push(event) } else { self.take_process(&event) }
        }
    }

    fn take_process(&mut self, event: &ProcessEvent) {
        let changes = self.workloads.on_process(event, BootTime(event.time_ns));
        self.apply(&changes);
        // The kernel has set the bit; setting it again restores one that a neighbour's change took.
        if event.kind == ProcessKind::Fork as u32 && self.workloads.find(event.tgid).is_some() {
            self.account.note(self.probe.tables.set_watched(event.tgid, true));
        }
    }

    /// Ends processes that are gone, and what they left open, once all they did has been taken.
    fn end_exited(&mut self) {
        if self.exits.is_empty() {
            return;
        }
        // What held them up is theirs as long as it is known who they were.
        self.take_stalls();
        let exits = std::mem::take(&mut self.exits);
        for event in &exits {
            self.take_process(event);
            let (tgid, now) = (event.tgid, BootTime(event.time_ns));
            self.connections.on_process_exit(tgid, now, &mut self.models, &mut self.observations);
        }
        self.hand_on();
        for event in exits {
            self.blame.forget_process(event.tgid);
        }
    }

    fn take_sockets(&mut self) -> usize {
        let Self { probe, workloads, models, connections, observations, ignored, account, .. } = self;
        let taken = probe.rings.drain_sockets(DRAIN_EVENTS, |bytes| {
            account.socket_events += 1;
            // What the kernel says of a socket by itself belongs to the process that used it last.
            let workload = if bytes.event.tgid == 0 { None } else { workloads.find(bytes.event.tgid) };
            let workload = workload.as_ref().map(|(workload, _)| workload);
            if connections.on_event(bytes, workload, models, observations) == Follow::Ignore {
                ignored.push(bytes.event.socket);
            }
        });
        for socket in ignored.drain(..) {
            account.note(probe.tables.ignore_socket(socket));
        }
        taken
    }

    /// Hands observations to every signal, requests with what their time went to.
    fn hand_on(&mut self) {
        if self.observations.is_empty() {
            return;
        }
        let ended = |observation: &Observation| matches!(observation, Observation::Finished(_));
        let threads = if self.observations.iter().any(ended) { self.look_at_threads() } else { Vec::new() };
        self.engines.take();
        self.gpus.take();
        let Self { connections, workloads, blame, engines, gpus, signals, .. } = self;
        let known = Known { threads: &threads, engines, gpus };
        for observation in self.observations.drain(..) {
            match &observation {
                Observation::Progress(progress) => {
                    signals.iter_mut().for_each(|signal| signal.on_progress(progress));
                }
                Observation::Finished(record) => {
                    let open = || connections.open(BootTime::now());
                    let verdict = blame.judge(record, &known, open, workloads);
                    signals.iter_mut().for_each(|signal| signal.on_request(record, &verdict));
                }
            }
        }
    }

    /// The watched threads as they stand, and every stall that was over before.
    fn look_at_threads(&mut self) -> Vec<(u32, Thread)> {
        let (threads, now) = (self.probe.stalls.threads(), BootTime::now());
        let threads = threads.unwrap_or_else(|error| {
            self.account.note(Err(error));
            Vec::new()
        });
        self.blame.on_threads(&threads, now);
        self.take_stalls();
        threads
    }

    fn take_stalls(&mut self) {
        let Self { probe, workloads, blame, account, .. } = self;
        let taken = probe.stalls.drain(DRAIN_STALLS, |event| blame.on_stall(event, workloads));
        account.stall_events += taken as u64;
    }

    /// The requests under way and the workloads, with what the servers' threads do meanwhile.
    fn standing(&mut self, now: BootTime) -> (Vec<OpenRequest>, Vec<WorkloadState>) {
        let (mut open, mut states) = (self.connections.open(now), self.workloads.states());
        let threads = self.look_at_threads();
        let gone = self.blame.on_tick(&threads, &open, now, &mut self.workloads);
        self.health.set_entries("threads", threads.len() - gone.len());
        self.health.set_entries("processes", self.workloads.followed());
        self.account.note(self.probe.stalls.forget(gone));
        for request in &mut open {
            request.stalled = request.stalled.map(|stall| why_stalled(stall, self.blame.load(request)));
        }
        for state in &mut states {
            state.down = why_down(state, self.blame.is_stopped(&state.workload.label), &open);
        }
        (open, states)
    }

    fn tick(&mut self) {
        let begun = Instant::now();
        // A tick that comes late must not judge by what has not been taken yet.
        let all_taken = self.drain();
        let now = BootTime::now();
        if all_taken {
            self.connections.on_tick(now, &mut self.models, &mut self.observations);
            self.close_unix(now);
            self.hand_on();
        }
        for (workload, model) in self.models.expire(now) {
            self.blame.forget_model(&workload, &model);
            for signal in &mut self.signals {
                signal.forget_model(&workload, &model);
            }
        }
        let closed = self.workloads.find_closed(now);
        self.apply(&closed);
        let (open, states) = self.standing(now);
        self.groups.follow(self.workloads.leaders());
        self.quality.follow(&self.workloads, &open);
        self.engines.take();
        self.engines.follow(self.workloads.doors());
        let groups = self.groups.newest();
        self.gpus.take();
        self.gpus.join(&mut self.workloads);
        let stalls = self.blame.totals();
        let (groups, engines, gpus) = (&groups, &self.engines, &self.gpus);
        let quality = &self.quality.newest();
        let tick = Tick { now, workloads: &states, open: &open, stalls, groups, engines, gpus, quality };
        for signal in &mut self.signals {
            let ticked = signal.on_tick(&tick);
            account::publish_signal(&self.health, signal.as_ref(), ticked);
        }
        self.health.set_workloads(&states);
        let lost = self.blame.lost();
        self.account.publish(&self.health, &self.probe, &self.connections, &self.models, lost);
        account::publish_overflow(&self.health, self.workloads.overflow());
        self.health.set_lost("gpu", "full", self.gpus.lost());
        self.probe.flush_log();
        self.health.tick(now);
        debug!(took = ?begun.elapsed(), "tick");
    }

    /// Where no hook tells that a server closed a Unix socket, its open sockets are looked at.
    fn close_unix(&mut self, now: BootTime) {
        if !self.probe.lists_unix() || !self.connections.has_quiet_unix(now) {
            return;
        }
        match self.probe.open_sockets() {
            Ok(open) => {
                // What a socket did before it went may still wait in the ring.
                if self.drain() {
                    self.connections.close_unix(&open, now, &mut self.models, &mut self.observations);
                }
            }
            Err(error) => self.account.note(Err(error)),
        }
    }

    /// After a loss, a request may be open on a socket whose end was among the lost.
    fn close_vanished(&mut self, now: BootTime) {
        let suspects = self.connections.maybe_vanished(now);
        if suspects.is_empty() {
            return;
        }
        let gone = match self.probe.gone(&suspects) {
            Ok(gone) => gone,
            Err(error) => return self.account.note(Err(error)),
        };
        // What a socket did before it went may still wait in the ring.
        if !gone.is_empty() && self.drain() {
            self.connections.close_vanished(&gone, now, &mut self.models, &mut self.observations);
            self.hand_on();
        }
    }

    fn scan(&mut self) {
        let now = BootTime::now();
        let changes = self.workloads.scan(now);
        self.apply(&changes);
        self.close_vanished(now);
    }
}
