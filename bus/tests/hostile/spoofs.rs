//! Peers that say they are somebody else.

use actix::prelude::*;
use shmbus::{fuzz::peer, prelude::*};

use crate::{
    Scene,
    peer::{Connection, Rig},
    support::{Stage, soon, system, threads},
    victim::Ping,
};

/// Answers with this more than it is asked.
struct Echo(u64);

impl Actor for Echo {
    type Context = Context<Self>;
}

impl Handler<Received<Ping>> for Echo {
    type Result = u64;
    fn handle(&mut self, ping: Received<Ping>, _: &mut Context<Self>) -> u64 {
        ping.n.to_native() + self.0
    }
}

/// Role: `[uid]`, of the user whom it lets in; the node that another one wants to be.
pub fn original(mut stage: Stage) {
    system(async move {
        let mut config = stage.config("original");
        if !stage.args.is_empty() {
            config = config.allow_uids([stage.number(0) as u32]);
        }
        let bus = config.join().await.unwrap();
        let echo = bus
            .bind("echo", Echo(100))
            .handles::<Ping>()
            .start()
            .await
            .unwrap();
        stage.say("ready");
        stage.wait().await;
        drop(echo);
    });
}

/// The id that a node says it has.
fn id_of(scene: &Scene, node: &str) -> u64 {
    Connection::open(&scene.place.socket(node), 0xdead).id
}

#[test]
fn a_peer_that_takes_the_id_of_a_live_node_is_refused() {
    threads(async {
        let mut scene = Scene::new().await;
        let mut original = scene.place.ready("spoofs::original", &[]).await;
        scene.victim.expect_after("call 1", "101").await;
        let id = id_of(&scene, "original");
        scene.victim.until("sessions", "honest original").await;
        for name in ["original", "other"] {
            let raw = Connection::dial(&scene.place.socket("victim"));
            raw.send(&peer::hello(name, id), &[]);
            let said = raw.refusal().expect("a refusal");
            assert!(said.contains("there is a session already"), "{said}");
            // As if it had been let in: nobody listens.
            raw.send(&peer::welcome(), &[]);
            raw.send(&peer::bye(), &[]);
        }
        scene.victim.expect_after("call 2", "102").await;
        scene.victim.expect_after("sessions", "honest original").await;
        scene.served().await;
        // The other way round nobody is kept out either: the id is free when its session has ended.
        original.kill();
        scene.settled().await;
        let mut late = Rig::new(Connection::open(&scene.place.socket("victim"), id));
        late.introduce().unwrap();
        drop(late);
        scene.settled().await;
        scene.end().await;
    });
}

#[test]
fn a_peer_that_takes_the_name_of_a_live_node_gets_nothing_of_it() {
    threads(async {
        let mut scene = Scene::new().await;
        let original = scene.place.ready("spoofs::original", &[]).await;
        scene.victim.expect_after("call 1", "101").await;
        // Of a lower id than the original's, its name would count: see SECURITY.
        let raw = Connection::open_as(&scene.place.socket("victim"), "original", u64::MAX);
        let mut rig = Rig::new(raw);
        rig.introduce().unwrap();
        rig.ask_victim().unwrap();
        // It unbinds what is not its own, by the very numbers that the original has there.
        for number in 0..3 {
            rig.frame(&peer::unbound("echo", number, number));
        }
        let kind = rig.kind().clone();
        rig.frame(&peer::bound("echo", 1, 1, &kind));
        rig.is_served().unwrap();
        scene
            .victim
            .expect_after("sessions", "honest original original")
            .await;
        // Who had the name first has it; what it is asked goes there.
        for n in 0..20 {
            scene
                .victim
                .expect_after(&format!("call {n}"), &(n + 100).to_string())
                .await;
        }
        // Nor does its end, by its own word, end anything of the other's.
        rig.frame(&peer::bye());
        drop(rig);
        scene.victim.until("sessions", "honest original").await;
        scene.victim.expect_after("call 3", "103").await;
        scene.served().await;
        // A node that comes later meets the original.
        let late = scene.place.config("late").join().await.unwrap();
        let echo = soon("its actor", late.address::<Ping>("echo")).await.unwrap();
        assert_eq!(echo.ask(&Ping { n: 1 }).await.unwrap().to_native(), 101);
        late.leave().await;
        drop(original);
        scene.settled().await;
        scene.end().await;
    });
}

/// The victim is of another user, and so is the node that is to be displaced: for the victim, its id is another one
/// for each user.
#[test]
fn what_a_peer_of_another_user_says_it_is_does_not_count() {
    threads(async {
        let Some(mut scene) = Scene::between_users().await else {
            return eprintln!("skipped, because only root can start a victim of another user");
        };
        // Of the victim's own user, in whose directory everybody may be.
        let original = scene
            .place
            .ready_as(crate::ANOTHER, crate::ANOTHER, "spoofs::original", &["0"])
            .await;
        let id = id_of(&scene, "original");
        scene.victim.expect_after("call 1", "101").await;
        scene.victim.until("sessions", "honest@0 original").await;
        let raw = Connection::open_as(&scene.place.socket("victim"), "original", id);
        let mut rig = Rig::new(raw).of_another_user();
        rig.introduce().unwrap();
        scene
            .victim
            .expect_after("sessions", "honest@0 original original@0")
            .await;
        // It may bind this name, and comes after the victim's own user all the same.
        let kind = rig.kind().clone();
        rig.frame(&peer::bound("echo", 1, 1, &kind));
        rig.frame(&peer::unbound("echo", 0, 0));
        rig.is_served().unwrap();
        for n in 0..20 {
            scene
                .victim
                .expect_after(&format!("call {n}"), &(n + 100).to_string())
                .await;
        }
        // A second one of the same id is the same node of that user.
        let raw = Connection::dial(&scene.place.socket("victim"));
        raw.send(&peer::hello("original", id), &[]);
        let said = raw.refusal().expect("a refusal");
        assert!(said.contains("there is a session already"), "{said}");
        rig.frame(&peer::bye());
        drop(rig);
        scene.victim.until("sessions", "honest@0 original").await;
        scene.victim.expect_after("call 3", "103").await;
        scene.served().await;
        // The victim's own id is refused from everybody.
        let own = id_of(&scene, "victim");
        let raw = Connection::dial(&scene.place.socket("victim"));
        raw.send(&peer::hello("original", own), &[]);
        raw.hang_up_comes();
        scene.victim.until("sessions", "honest@0 original").await;
        drop(original);
        scene.settled().await;
        scene.end().await;
    });
}
