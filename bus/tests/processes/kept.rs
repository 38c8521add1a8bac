//! Messages that are kept longer than the link they came by: nobody writes over them.

use shmbus::prelude::*;

use crate::{
    service::{Keep, bytes, start},
    support::{Child, Place, eventually, settled, threads},
};

const KEPT: u64 = 20;
const LEN: usize = 3000;

fn keep(seq: u64, salt: u64) -> Keep {
    let data = bytes(seq ^ salt, LEN);
    Keep { seq, data }
}

/// A server that keeps so many messages of a bus.
async fn keeper(place: &Place, bus: &Bus) -> (Child, Address<Keep>) {
    let mut server = start(place, &["keeper", "keeper"]).await;
    let actor = bus.address::<Keep>("keeper").await.unwrap();
    for seq in 0..KEPT {
        actor.tell(&keep(seq, 0)).await.unwrap();
    }
    server.until_kept(KEPT as usize).await;
    (server, actor)
}

async fn reads_all(server: &mut Child) {
    server.expect_after("read", &KEPT.to_string()).await;
}

#[test]
fn what_a_process_keeps_after_it_has_left_stays_what_it_was() {
    let place = Place::new();
    threads(async {
        let bus = place.config("client").join().await.unwrap();
        let (mut server, actor) = keeper(&place, &bus).await;
        let mut other = start(&place, &["other", "other"]).await;
        let elsewhere = bus.address::<Keep>("other").await.unwrap();
        server.expect_after("leave", "left").await;
        eventually("it has left", || bus.peers() == ["other"]).await;
        // Far more than it keeps, in buffers of the same size.
        for seq in 0..10 * KEPT {
            elsewhere.tell(&keep(seq, 0xa5)).await.unwrap();
        }
        other.until_kept(10 * KEPT as usize).await;
        reads_all(&mut server).await;
        // The others come back as they are released,
        let in_use = |buffers: u64| bus.stats().pool_buffers == buffers;
        other.expect_after("release 200", "200").await;
        eventually("the other's buffers are free", || in_use(KEPT)).await;
        // these too,
        server.expect_after("release 5", "5").await;
        eventually("what it released is free", || in_use(KEPT - 5)).await;
        // and all of them with their reader.
        server.kill();
        settled(&bus).await;
        drop((actor, other));
    });
}

/// Who has left may still take memory, for what it can send to nobody.
#[test]
fn what_is_kept_of_a_process_that_has_left_is_not_given_out_again() {
    let place = Place::new();
    threads(async {
        let bus = place.config("client").join().await.unwrap();
        let (mut server, actor) = keeper(&place, &bus).await;
        let publisher = bus.publisher::<Keep>("kept").await.unwrap();
        bus.clone().leave().await;
        server.until("peers", "0").await;
        assert!(actor.try_tell(&keep(7, 0xa5)).is_err());
        let loans: Vec<_> = (0..4 * KEPT)
            .map(|_| {
                let mut loan = publisher.try_loan(LEN).unwrap();
                loan.fill(0xa5);
                loan
            })
            .collect();
        reads_all(&mut server).await;
        drop(loans);
    });
}
