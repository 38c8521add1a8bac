//! iceoryx2 0.10, its `ipc` services, with payloads of bytes written into loaned memory and read where they lie.
//!
//! Tuned as its documentation says for large and for many messages: memory for slices of the right length from
//! the start (`initial_max_slice_len`, static allocation), no overflow and
//! `BackpressureStrategy::RetryUntilDelivered` (nothing is lost), buffers no deeper than the case needs (shallow
//! ones keep large payloads in the cache), its signal handling off, alignment of a cache line. Each measurement
//! has a root path and a prefix of its own.

use std::{collections::VecDeque, mem::MaybeUninit, slice};

use iceoryx2::{
    active_request::ActiveRequest,
    node::Node,
    pending_response::PendingResponse,
    port::{
        client::Client, listener::Listener, notifier::Notifier, publisher::Publisher, server::Server,
        subscriber::Subscriber,
    },
    prelude::*,
};

use super::Polling;
use crate::{
    Result,
    case::{Case, IN_FLIGHT, Role, Run},
    pace::Waiting,
    wire::Wire,
};

type Bytes = [u8];

/// Everything with one node of its own, whose files are removed when it is dropped.
fn node(run: &Run) -> Result<Node<ipc::Service>> {
    set_log_level(LogLevel::Error);
    let mut config = Config::default();
    let dir = run.dir.to_str().ok_or("the directory's name is not text")?;
    config.global.set_root_path(&Path::new(dir.as_bytes())?);
    config.global.prefix = FileName::new(prefix(&run.dir).as_bytes())?;
    Ok(NodeBuilder::new()
        .config(&config)
        .signal_handling_mode(SignalHandlingMode::Disabled)
        .create()?)
}

/// What names the files of one measurement.
fn prefix(dir: &std::path::Path) -> String {
    let name = dir.file_name().and_then(|name| name.to_str());
    format!("{}_", name.unwrap_or("bench"))
}

/// Removes the segment that all nodes of one prefix share and none of them removes, and whatever a process left that
/// was killed. The other files are in the directory.
pub(super) fn forget(dir: &std::path::Path) {
    let prefix = prefix(dir);
    let files = std::fs::read_dir("/dev/shm").into_iter().flatten().flatten();
    for file in files.filter(|file| file.file_name().to_string_lossy().starts_with(&prefix)) {
        // One that is gone already is no concern.
        let _ = std::fs::remove_file(file.path());
    }
}

/// As deep as the case needs, in messages.
fn depth(run: &Run) -> usize {
    match run.case() {
        Case::Ask | Case::IdleWake => 2,
        Case::Ask64 => 2 * IN_FLIGHT,
        _ => ((1 << 20) / run.payload()).clamp(4, 1024),
    }
}

/// All of a loan, to be written.
fn bytes(loan: &mut [MaybeUninit<u8>]) -> &mut [u8] {
    // SAFETY: the loan is part of a mapping that the kernel gave out as bytes with values, and any value is a valid
    // `u8`; the borrow is exclusive and as long as the loan's.
    unsafe { slice::from_raw_parts_mut(loan.as_mut_ptr().cast(), loan.len()) }
}

/// Publishing and subscribing, in both directions.
pub(super) struct PubSub {
    publisher: Publisher<ipc::Service, Bytes, ()>,
    /// The client has one per server.
    subscribers: Vec<Subscriber<ipc::Service, Bytes, ()>>,
    turn: usize,
    payload: usize,
    /// Where somebody waits for events instead of polling.
    events: Option<Events>,
    _node: Node<ipc::Service>,
}

/// How one end wakes the other, and is woken.
struct Events {
    notifier: Notifier<ipc::Service>,
    listener: Listener<ipc::Service>,
}

/// The names of the services that carry messages to the servers, and back from each.
fn service(back_from: Option<usize>) -> String {
    back_from.map_or("there".into(), |server| format!("back-{server}"))
}

impl PubSub {
    pub(super) fn new(run: &Run, with_events: bool) -> Result<Self> {
        let node = node(run)?;
        let servers = run.point.receivers;
        let open = |name: &str| -> Result<_> {
            Ok(node
                .service_builder(&name.try_into()?)
                .publish_subscribe::<Bytes>()
                .payload_alignment(Alignment::new(64).ok_or("64 is a power of two")?)
                .enable_safe_overflow(false)
                .history_size(0)
                .subscriber_max_buffer_size(depth(run))
                .subscriber_max_borrowed_samples(1)
                .max_publishers(1)
                .max_subscribers(servers)
                .max_nodes(servers + 1)
                .open_or_create()?)
        };
        let (writes, reads) = match run.role {
            Role::Server(index) => (service(Some(index)), vec![service(None)]),
            Role::Client(_) => (
                service(None),
                (0..servers).map(|server| service(Some(server))).collect(),
            ),
        };
        // Ends that receive come first: what sends connects to those that are there.
        let mut subscribers = Vec::new();
        for name in &reads {
            subscribers.push(
                open(name)?
                    .subscriber_builder()
                    .buffer_size(depth(run))
                    .create()?,
            );
        }
        let publisher = open(&writes)?
            .publisher_builder()
            .initial_max_slice_len(run.payload())
            .allocation_strategy(AllocationStrategy::Static)
            .backpressure_strategy(BackpressureStrategy::RetryUntilDelivered)
            .max_loaned_samples(1)
            .create()?;
        let events = if with_events {
            Some(Events::new(run, &node)?)
        } else {
            None
        };
        Ok(Self {
            publisher,
            subscribers,
            turn: 0,
            payload: run.payload(),
            events,
            _node: node,
        })
    }
}

impl Events {
    /// One event service wakes all servers, another the client.
    fn new(run: &Run, node: &Node<ipc::Service>) -> Result<Self> {
        let ends = run.point.receivers;
        let open = |name: &str| -> Result<_> {
            Ok(node
                .service_builder(&name.try_into()?)
                .event()
                .max_listeners(ends)
                .max_notifiers(ends)
                .max_nodes(ends + 1)
                .open_or_create()?)
        };
        let (wakes, woken) = match run.role {
            Role::Server(_) => ("wake-client", "wake-servers"),
            Role::Client(_) => ("wake-servers", "wake-client"),
        };
        Ok(Self {
            listener: open(woken)?.listener_builder().create()?,
            notifier: open(wakes)?.notifier_builder().create()?,
        })
    }
}

impl Wire for PubSub {
    const WAITING: Waiting = Waiting::Blocking;

    async fn send(&mut self, fill: impl FnOnce(&mut [u8])) -> Result<()> {
        let mut loan = self.publisher.loan_slice_uninit(self.payload)?;
        fill(bytes(loan.payload_mut()));
        // SAFETY: `fill` writes all of it.
        unsafe { loan.assume_init() }.send()?;
        if let Some(events) = &self.events {
            events.notifier.notify()?;
        }
        Ok(())
    }

    async fn receive<T>(&mut self, read: impl FnOnce(&[u8]) -> T) -> Result<T> {
        let subscriber = &self.subscribers[self.turn];
        self.turn = (self.turn + 1) % self.subscribers.len();
        let mut polling = Polling::default();
        loop {
            if let Some(sample) = subscriber.receive()? {
                return Ok(read(&sample));
            }
            match &self.events {
                // Events of messages that were received already end this at once.
                Some(events) => {
                    events.listener.blocking_wait(|_| {})?;
                }
                None => polling.again(),
            }
        }
    }
}

type Asked = PendingResponse<ipc::Service, Bytes, (), Bytes, ()>;
type Request = ActiveRequest<ipc::Service, Bytes, (), Bytes, ()>;

/// Requests and responses, polling.
pub(super) enum Requests {
    /// Asks, and has the answers that are awaited.
    Client {
        client: Client<ipc::Service, Bytes, (), Bytes, ()>,
        asked: VecDeque<Asked>,
        payload: usize,
        _node: Node<ipc::Service>,
    },
    /// Answers the request it received last.
    Server {
        server: Server<ipc::Service, Bytes, (), Bytes, ()>,
        request: Option<Request>,
        payload: usize,
        _node: Node<ipc::Service>,
    },
}

impl Requests {
    pub(super) fn new(run: &Run) -> Result<Self> {
        let node = node(run)?;
        let alignment = || Alignment::new(64).ok_or("64 is a power of two");
        let in_flight = if run.case() == Case::Ask64 { IN_FLIGHT } else { 1 };
        let service = node
            .service_builder(&"ask".try_into()?)
            .request_response::<Bytes, Bytes>()
            .request_payload_alignment(alignment()?)
            .response_payload_alignment(alignment()?)
            .enable_safe_overflow_for_requests(false)
            .enable_safe_overflow_for_responses(false)
            .max_active_requests_per_client(in_flight)
            .max_loaned_requests(1)
            .max_response_buffer_size(1)
            .max_borrowed_responses_per_pending_response(1)
            .max_servers(1)
            .max_clients(1)
            .max_nodes(2)
            .open_or_create()?;
        let payload = run.payload();
        Ok(match run.role {
            Role::Client(_) => Requests::Client {
                client: service
                    .client_builder()
                    .initial_max_slice_len(payload)
                    .allocation_strategy(AllocationStrategy::Static)
                    .backpressure_strategy(BackpressureStrategy::RetryUntilDelivered)
                    .create()?,
                asked: VecDeque::with_capacity(IN_FLIGHT),
                payload,
                _node: node,
            },
            Role::Server(_) => Requests::Server {
                server: service
                    .server_builder()
                    .initial_max_slice_len(payload)
                    .allocation_strategy(AllocationStrategy::Static)
                    .backpressure_strategy(BackpressureStrategy::RetryUntilDelivered)
                    .max_loaned_responses_per_request(1)
                    .create()?,
                request: None,
                payload,
                _node: node,
            },
        })
    }
}

impl Wire for Requests {
    const WAITING: Waiting = Waiting::Blocking;

    async fn send(&mut self, fill: impl FnOnce(&mut [u8])) -> Result<()> {
        match self {
            Requests::Client {
                client,
                asked,
                payload,
                ..
            } => {
                let mut loan = client.loan_slice_uninit(*payload)?;
                fill(bytes(loan.payload_mut()));
                // SAFETY: `fill` writes all of it.
                asked.push_back(unsafe { loan.assume_init() }.send()?);
            }
            Requests::Server { request, payload, .. } => {
                let request = request.take().ok_or("nothing was asked")?;
                let mut loan = request.loan_slice_uninit(*payload)?;
                fill(bytes(loan.payload_mut()));
                // SAFETY: `fill` writes all of it.
                unsafe { loan.assume_init() }.send()?;
            }
        }
        Ok(())
    }

    async fn receive<T>(&mut self, read: impl FnOnce(&[u8]) -> T) -> Result<T> {
        let mut polling = Polling::default();
        match self {
            Requests::Client { asked, .. } => {
                let pending = asked.pop_front().ok_or("no answer is awaited")?;
                loop {
                    if let Some(response) = pending.receive()? {
                        return Ok(read(&response));
                    }
                    polling.again();
                }
            }
            Requests::Server { server, request, .. } => loop {
                if let Some(received) = server.receive()? {
                    let value = read(&received);
                    *request = Some(received);
                    return Ok(value);
                }
                polling.again();
            },
        }
    }
}
