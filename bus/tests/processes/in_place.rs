//! Messages of a fixed size, written in the memory that another process reads.

use actix::prelude::*;
use futures_util::{FutureExt, StreamExt};
use shmbus::{
    FixedSize,
    error::{AskError, Bound, SendError},
    prelude::*,
};

use crate::{
    service::{Digest, Ping, configured, digest},
    support::{Place, Stage, eventually, settled, soon, system},
};

#[derive(ShmType, Debug, Clone, Copy)]
enum Mode {
    Idle,
    Turning { rpm: u16 },
}

#[derive(ShmMessage, Debug)]
#[shm(reply = Digest)]
struct Scan {
    seq: u64,
    mode: Mode,
    echoes: [u8; 3000],
}

const EMPTY: Scan = Scan {
    seq: 0,
    mode: Mode::Idle,
    echoes: [0; 3000],
};

/// Has no bytes at all.
#[derive(ShmMessage, Debug)]
#[shm(reply = u64)]
struct Tick;

/// Kept by its handler until the test says `release`.
#[derive(ShmMessage, Debug)]
struct Hold {
    echoes: [u8; 3000],
}

/// Above the largest class of the pool.
#[derive(ShmMessage, Debug)]
#[shm(reply = u64)]
struct Huge {
    words: [[u64; 1024]; 1024],
}

#[derive(Default)]
struct Reader {
    ticks: u64,
    held: std::sync::Arc<std::sync::Mutex<Vec<Received<Hold>>>>,
}

impl Actor for Reader {
    type Context = Context<Self>;
}

fn sum(scan: &Received<Scan>) -> Digest {
    let extra = match &scan.mode {
        ArchivedMode::Idle => 0,
        ArchivedMode::Turning { rpm } => u64::from(rpm.to_native()),
    };
    digest(scan.seq.to_native() + extra, &scan.echoes)
}

impl Handler<Received<Scan>> for Reader {
    type Result = MessageResult<Received<Scan>>;
    fn handle(&mut self, scan: Received<Scan>, _: &mut Context<Self>) -> Self::Result {
        MessageResult(sum(&scan))
    }
}

impl Handler<Received<Tick>> for Reader {
    type Result = u64;
    fn handle(&mut self, _: Received<Tick>, _: &mut Context<Self>) -> u64 {
        self.ticks += 1;
        self.ticks
    }
}

impl Handler<Received<Hold>> for Reader {
    type Result = ();
    fn handle(&mut self, hold: Received<Hold>, _: &mut Context<Self>) {
        self.held.lock().unwrap().push(hold);
    }
}

impl Handler<Received<Huge>> for Reader {
    type Result = u64;
    fn handle(&mut self, huge: Received<Huge>, _: &mut Context<Self>) -> u64 {
        huge.words[1023][1023].to_native()
    }
}

impl Handler<Received<Ping>> for Reader {
    type Result = u64;
    fn handle(&mut self, ping: Received<Ping>, _: &mut Context<Self>) -> u64 {
        ping.n.to_native()
    }
}

/// Role: `setting=value..`; says `ready`, then does what the test says.
pub fn reader(mut stage: Stage) {
    system(async move {
        let bus = configured(&stage, "server").join().await.expect("join");
        let reader = Reader::default();
        let held = reader.held.clone();
        let _bound = bus
            .bind("reader", reader)
            .handles::<Scan>()
            .handles::<Tick>()
            .handles::<Hold>()
            .handles::<Huge>()
            .handles::<Ping>()
            .start()
            .await
            .expect("bind");
        stage.say("ready");
        loop {
            match stage.hear().await.as_str() {
                "held" => stage.say(held.lock().unwrap().len()),
                "release" => {
                    let mut held = held.lock().unwrap();
                    let sum = held.iter().map(|hold| u64::from(hold.echoes[7])).sum::<u64>();
                    held.clear();
                    stage.say(sum);
                }
                other => panic!("unknown command {other}"),
            }
        }
    });
}

/// Role: `node`; subscribes `scans`, and says what it got each time the test says `next`.
pub fn viewer(mut stage: Stage) {
    system(async move {
        let bus = stage.config(stage.arg(0)).join().await.expect("join");
        let scans = bus.subscriber::<Scan>("scans").depth(2).when_full(WhenFull::Wait);
        let mut scans = scans.await.expect("subscribe");
        stage.say("ready");
        loop {
            stage.hear().await;
            let scan = scans.next().await.expect("a scan");
            stage.say(sum(&scan).sum);
        }
    });
}

#[test]
fn what_is_written_is_read_by_another_process() {
    let place = Place::new();
    system(async {
        let _child = place.ready("in_place::reader", &[]).await;
        let bus = place.config("client").join().await.unwrap();
        let reader = bus.address::<(Ping, Scan, Tick)>("reader").await.unwrap();

        // Untouched, it is the initial value.
        let scan = reader.try_in_place(&EMPTY).unwrap();
        assert!(std::ptr::from_ref(&*scan).addr().is_multiple_of(64));
        assert_eq!(bus.stats().pool_buffers, 1);
        assert_eq!(scan.ask().await.unwrap().to_owned(), digest(0, &[0; 3000]));

        for seq in 1..20_u64 {
            let mut scan = reader.in_place(&EMPTY).await.unwrap();
            scan.seq = seq.into();
            scan.mode = ArchivedMode::Turning { rpm: 100.into() };
            scan.echoes[seq as usize..].fill(seq as u8);
            let mut expected = [0; 3000];
            expected[seq as usize..].fill(seq as u8);
            let reply = scan.ask().await.unwrap();
            assert_eq!(reply.to_owned(), digest(seq + 100, &expected));
        }
        for n in 1..4 {
            let tick = reader.in_place(&Tick).await.unwrap();
            assert_eq!(tick.ask().await.unwrap().to_native(), n);
        }
        assert_eq!(bus.stats().loans_copied, 0);
        settled(&bus).await;
    });
}

#[test]
fn a_message_above_the_largest_class_has_a_segment_of_its_own() {
    let place = Place::new();
    // 8 MiB: too much for a test's stack.
    static EMPTY: Huge = Huge {
        words: [[0; 1024]; 1024],
    };
    system(async {
        let _child = place.ready("in_place::reader", &[]).await;
        let bus = place.config("client").join().await.unwrap();
        let reader = bus.address::<Huge>("reader").await.unwrap();
        let mut written = reader.in_place(&EMPTY).await.unwrap();
        written.words[1023][1023] = 17.into();
        assert_eq!(written.ask().await.unwrap().to_native(), 17);
        drop(bus);

        let bus = place
            .config("narrow")
            .message_bytes(1 << 20)
            .join()
            .await
            .unwrap();
        let reader = bus.address::<Huge>("reader").await.unwrap();
        let error = reader.try_in_place(&EMPTY).map(drop).unwrap_err();
        assert!(
            matches!(error, SendError::TooLarge { bytes: 0x80_0000, .. }),
            "{error}"
        );
    });
}

#[test]
fn what_is_not_sent_goes_back_or_comes_back() {
    let place = Place::new();
    system(async {
        let mut child = place.ready("in_place::reader", &["window=2"]).await;
        let bus = place.config("client").join().await.unwrap();
        let reader = bus.address::<Hold>("reader").await.unwrap();
        let empty = Hold { echoes: [0; 3000] };
        drop(reader.try_in_place(&empty).unwrap());
        drop(reader.try_in_place(&empty).unwrap().send());
        drop(reader.try_in_place(&empty).unwrap().ask());
        assert_eq!(bus.stats().pool_buffers, 0);

        for n in 1..3 {
            let mut hold = reader.try_in_place(&empty).unwrap();
            hold.echoes[7] = n;
            hold.try_send().unwrap();
        }
        let mut hold = reader.try_in_place(&empty).unwrap();
        hold.echoes[7] = 30;
        let at = std::ptr::from_ref(&*hold);
        let unsent = hold.try_send().unwrap_err();
        assert_eq!(
            unsent.error,
            SendError::Full {
                name: "reader".into(),
                bound: Bound::Window
            }
        );
        // It is as it was, and can be written on.
        let mut hold = unsent.loan;
        assert!(std::ptr::eq(&*hold, at) && hold.echoes[7] == 30);
        hold.echoes[7] += 1;
        assert_eq!(bus.stats().pool_buffers, 3);

        child.until("held", "2").await;
        let mut sending = std::pin::pin!(hold.send());
        assert!((&mut sending).now_or_never().is_none());
        child.expect_after("release", "3").await;
        soon("there is room", sending).await.unwrap();
        child.until("held", "1").await;
        child.expect_after("release", "31").await;
        settled(&bus).await;
    });
}

#[test]
fn a_lost_reader_is_named() {
    let place = Place::new();
    system(async {
        let mut child = place.ready("in_place::reader", &[]).await;
        let bus = place.config("client").join().await.unwrap();
        let reader = bus.address::<Scan>("reader").await.unwrap();
        let (one, other) = (
            reader.try_in_place(&EMPTY).unwrap(),
            reader.try_in_place(&EMPTY).unwrap(),
        );
        child.kill();
        eventually("the peer is gone", || bus.stats().peers == 0).await;
        let lost = SendError::PeerLost {
            name: "reader".into(),
        };
        let unsent = one.try_send().unwrap_err();
        assert_eq!((&unsent.error, unsent.loan.echoes), (&lost, [0; 3000]));
        drop(unsent);
        assert_eq!(other.ask().await.unwrap_err(), AskError::Send(lost.clone()));
        assert_eq!(reader.in_place(&EMPTY).await.map(drop).unwrap_err(), lost);
        assert_eq!(bus.stats().pool_buffers, 0);
    });
}

#[test]
fn a_topics_message_is_in_one_buffer_for_all() {
    fn any_message_of_a_fixed_size<M: FixedSize>(to: &Publisher<M>, initial: &M) {
        to.try_in_place(initial).unwrap().try_send().unwrap();
    }

    let place = Place::new();
    system(async {
        let bus = place.config("publisher").join().await.unwrap();
        let scans = bus.publisher::<Scan>("scans").await.unwrap();
        // Nobody wants it.
        any_message_of_a_fixed_size(&scans, &EMPTY);
        assert_eq!((bus.stats().pool_buffers, scans.stats().published), (0, 1));

        let mut viewers = Vec::new();
        for node in ["one", "two"] {
            let viewer = place.ready("in_place::viewer", &[node]).await;
            viewers.push(viewer);
        }
        eventually("both are there", || scans.stats().subscribers == 2).await;
        for n in 1..3_u8 {
            let mut scan = scans.in_place(&EMPTY).await.unwrap();
            scan.echoes.fill(n);
            scan.send().await.unwrap();
            assert_eq!(bus.stats().pool_buffers, u64::from(n), "one for both");
        }
        // Their depth is used up: the message comes back, or waits.
        let mut scan = scans.try_in_place(&EMPTY).unwrap();
        scan.echoes.fill(3);
        let unsent = scan.try_send().unwrap_err();
        assert!(matches!(
            unsent.error,
            SendError::Full {
                bound: Bound::Window,
                ..
            }
        ));
        assert_eq!(unsent.loan.echoes, [3; 3000]);
        let mut sending = std::pin::pin!(unsent.loan.send());
        assert!((&mut sending).now_or_never().is_none());
        let sum = |n: u8| digest(0, &[n; 3000]).sum.to_string();
        for viewer in &mut viewers {
            viewer.expect_after("next", &sum(1)).await;
        }
        soon("there is room", sending).await.unwrap();
        for viewer in &mut viewers {
            viewer.expect_after("next", &sum(2)).await;
            viewer.expect_after("next", &sum(3)).await;
        }
        settled(&bus).await;
        drop(scans.in_place(&EMPTY).await.unwrap().send());
        assert_eq!(bus.stats().pool_buffers, 0);
    });
}
