//! RLIMIT_AS: memory that cannot be mapped, one's own and a peer's.

use crate::{
    party::{join, serve},
    support::{Place, system},
};

/// With so many slots a link segment takes 20 MiB.
const SLOTS: &str = "262144";

#[test]
fn memory_of_ones_own_that_has_no_room_is_named_and_had_when_there_is_room() {
    let place = Place::new();
    system(async {
        let mut server = serve(&place, &["server"]).await;
        let mut other = serve(&place, &["other"]).await;
        let mut narrow = join(&place, &["narrow", SLOTS]).await;
        narrow.expect_after("open server", "ok").await;
        narrow.expect_after("space 8", "ok").await;
        // The pool's first segment.
        let said = narrow.ask("blob server 1000").await;
        assert!(said.contains("RLIMIT_AS") && said.contains("map"), "{said}");
        // A link to another node.
        let said = narrow.ask("open other").await;
        assert!(said.contains("RLIMIT_AS") && said.contains("map"), "{said}");
        // What is there works.
        narrow.expect_after("ping server", "ok").await;
        narrow.expect_after("space all", "ok").await;
        narrow.expect_after("blob server 1000", "true").await;
        narrow.expect_after("open other", "ok").await;
        narrow.expect_after("blob other 1000", "true").await;
        for node in [&mut server, &mut other, &mut narrow] {
            node.expect_after("stat violations", "0").await;
        }
    });
}

#[test]
fn a_link_that_the_other_end_has_no_room_for_is_refused_with_its_limit_and_ends_no_session() {
    let place = Place::new();
    system(async {
        let mut narrow = serve(&place, &["narrow"]).await;
        let mut third = join(&place, &["third"]).await;
        third.expect_after("open narrow", "ok").await;
        let mut wide = join(&place, &["wide", SLOTS]).await;
        narrow.until("peers", "third wide").await;
        narrow.expect_after("space 8", "ok").await;
        for _ in 0..3 {
            let said = wide.ask("open narrow").await;
            assert!(said.contains("`narrow` refused"), "{said}");
            assert!(said.contains("RLIMIT_AS"), "{said}");
        }
        narrow.expect_after("peers", "third wide").await;
        third.expect_after("ping narrow", "ok").await;
        narrow.expect_after("space all", "ok").await;
        wide.expect_after("open narrow", "ok").await;
        wide.expect_after("blob narrow 1000", "true").await;
        narrow.expect_after("stat violations", "0").await;
    });
}

#[test]
fn an_answering_end_that_its_asker_has_no_room_for_is_named_and_ends_no_session() {
    let place = Place::new();
    system(async {
        let mut wide = serve(&place, &["wide", SLOTS]).await;
        let mut server = serve(&place, &["server"]).await;
        let mut narrow = join(&place, &["narrow"]).await;
        narrow.expect_after("open server", "ok").await;
        narrow.expect_after("space 8", "ok").await;
        let said = narrow.ask("open wide").await;
        assert!(said.contains("RLIMIT_AS"), "{said}");
        narrow.expect_after("peers", "server wide").await;
        narrow.expect_after("ping server", "ok").await;
        narrow.expect_after("space all", "ok").await;
        narrow.expect_after("open wide", "ok").await;
        narrow.expect_after("blob wide 1000", "true").await;
        for node in [&mut wide, &mut server, &mut narrow] {
            node.expect_after("stat violations", "0").await;
        }
    });
}

/// Its messages are on their way when the segment turns out to have no room: that session ends, as if the peer were
/// lost, and the two meet again.
#[test]
fn a_pool_that_the_receiver_has_no_room_for_ends_that_session_and_they_meet_again() {
    let place = Place::new();
    system(async {
        let mut narrow = serve(&place, &["narrow"]).await;
        let mut third = join(&place, &["third"]).await;
        third.expect_after("open narrow", "ok").await;
        let mut sender = join(&place, &["sender"]).await;
        sender.expect_after("open narrow", "ok").await;
        narrow.expect_after("space 8", "ok").await;
        let said = sender.ask("blob narrow 1000").await;
        assert!(said.contains("was lost") || said.contains("is gone"), "{said}");
        third.expect_after("ping narrow", "ok").await;
        narrow.expect_after("stat violations", "0").await;
        narrow.expect_after("space all", "ok").await;
        narrow.until("peers", "sender third").await;
        sender.until("open narrow", "ok").await;
        sender.expect_after("blob narrow 1000", "true").await;
        third.expect_after("ping narrow", "ok").await;
    });
}
