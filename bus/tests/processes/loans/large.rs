//! Messages above the pool's largest buffer have a segment each, which goes when they do.

use super::{Hold, shared_memory, sink_of};
use crate::{
    service::{Later, Ping, start},
    support::{Place, eventually, settled, soon, system},
};

/// Segments of messages of `len` bytes that this process maps. Other tests of it have other lengths.
fn large_segments(len: usize) -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("/proc");
    let bytes = |line: &str| {
        let (range, _) = line.split_once(' ')?;
        let (from, to) = range.split_once('-')?;
        Some(usize::from_str_radix(to, 16).ok()? - usize::from_str_radix(from, 16).ok()?)
    };
    let of_len = |bytes: usize| (len..len + 8192).contains(&bytes);
    maps.lines()
        .filter(|line| line.contains("shmbus-large") && bytes(line).is_some_and(of_len))
        .count()
}

#[test]
fn three_hundred_mebibytes_come_and_go() {
    const LEN: usize = 300 << 20;
    const MUCH: u64 = 100 << 20;
    let place = Place::new();
    system(async {
        let mut child = sink_of(&place, &[&format!("message={}", 512 << 20)]).await;
        let bus = place
            .config("client")
            .message_bytes(512 << 20)
            .join()
            .await
            .unwrap();
        let sink = bus.address::<(Ping, Hold)>("sink").await.unwrap();
        let before = bus.stats().pool_reserved_bytes;
        let mut loan = sink.loan::<Hold>(LEN).await.unwrap();
        // A number per page is enough to tell pages apart, and fast in a debug build.
        for (n, page) in loan.chunks_mut(4096).enumerate() {
            page[..8].copy_from_slice(&n.to_le_bytes());
        }
        assert!(bus.stats().pool_reserved_bytes > before + LEN as u64 - 1);
        loan.send(|data| Hold { data }).await.unwrap();
        child.until("held", "1").await;
        child.expect_after("pages", "true").await;
        assert!(shared_memory() > MUCH && large_segments(LEN) == 1);

        // It goes when the reader lets go, although nothing else is sent or asked of this node.
        child.expect_after("release", "released").await;
        eventually("the segment is unmapped", || large_segments(LEN) == 0).await;
        assert!(shared_memory() < MUCH, "{}", shared_memory());
        assert_eq!(bus.stats().pool_reserved_bytes, before);
        let theirs: u64 = child.ask("shared").await.parse().unwrap();
        assert!(theirs < MUCH, "{theirs}");
        settled(&bus).await;

        // A second time, while smaller messages go by.
        let mut loan = sink.loan::<Hold>(LEN).await.unwrap();
        loan[LEN - 1] = 1;
        loan.send(|data| Hold { data }).await.unwrap();
        for n in 0..1000 {
            assert_eq!(sink.ask(&Ping { n }).await.unwrap().to_native(), n);
        }
        child.until("held", "1").await;
        assert_eq!(large_segments(LEN), 1);
        child.expect_after("release", "released").await;
        eventually("the segment is unmapped", || large_segments(LEN) == 0).await;
        settled(&bus).await;
    });
}

#[test]
fn large_replies_are_freed_too() {
    const LEN: usize = 11 << 20;
    let place = Place::new();
    system(async {
        let mut server = start(&place, &["server", "actor"]).await;
        let bus = place.config("client").join().await.unwrap();
        let actor = bus.address::<Later>("actor").await.unwrap();
        server.say("permit 1");
        let reply = actor.ask(&Later { bytes: LEN as u64 }).await.unwrap();
        assert!(large_segments(LEN) == 1 && reply.len() == LEN);
        assert!(server.stat("pool_reserved_bytes").await >= LEN as u64);
        drop(reply);
        assert_eq!(large_segments(LEN), 0);
        let mut left = u64::MAX;
        while left > 0 {
            left = soon("it comes back", server.stat("pool_used_bytes")).await;
        }
    });
}
