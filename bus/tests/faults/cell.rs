//! One cell of the matrix: a role that is struck at a point.

use std::time::{Duration, Instant};

use shmbus::faults::Point;

use crate::{
    links,
    row::{Role, Row, Strike},
    support::{self, eventually, soon},
    traffic::Traffic,
    world::{Party, World},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell {
    pub row: Row,
    pub strike: Strike,
    pub role: Role,
}

/// Plays a cell. Returns how long asks and tells to the dead took to fail.
pub async fn play(cell: Cell, world: &mut World) -> Option<Duration> {
    let Cell { row, strike, .. } = cell;
    let point = row.point;
    if links::is_of(point) {
        links::play(cell, world).await;
        return None;
    }
    let (kill, nth) = (strike == Strike::Kill, row.nth());
    let mut victim = Party::start(&world.place, "victim").await;
    let mut traffic = Traffic::default();
    let dial = matches!(point, Point::DialHello | Point::DialVerdict | Point::DialEnd);
    let accept = matches!(
        point,
        Point::AcceptHello | Point::AcceptVerdict | Point::AcceptEnd
    );
    let mut newcomer = None;
    if dial {
        victim.arm(point, nth, kill).await;
        victim.say("join");
    } else {
        victim.order("join", "joined").await;
        traffic.prepare(cell, world, &mut victim).await;
        victim.arm(point, nth, kill).await;
        if accept {
            let join = world.place.config("newcomer").join();
            newcomer = Some(actix::spawn(join));
        } else {
            traffic.begin(cell, world, &mut victim).await;
        }
    }
    victim.reach(kill).await;
    if !kill {
        // The others do not even feel that it stands still.
        world.check().await;
    }
    let survives = strike == Strike::StopContinue;
    let died = Instant::now();
    match strike {
        Strike::Kill => {}
        Strike::StopKill => victim.kill().await,
        Strike::StopContinue => victim.thaw(),
    }
    if let Some(joining) = newcomer {
        let bus = soon("a newcomer joins", joining).await.expect("no panic");
        let bus = bus.expect("join");
        let mut peers = vec!["bystander", "survivor"];
        if survives {
            peers.push("victim");
        }
        let knows = || support::peers(&bus) == peers;
        eventually("the newcomer knows its peers", knows).await;
        bus.leave().await;
    }
    let mut failed_after = None;
    if survives {
        if dial {
            victim.expect("joined").await;
            traffic.prepare(cell, world, &mut victim).await;
        }
        if dial || accept {
            traffic.begin(cell, world, &mut victim).await;
        }
        traffic.finish(cell, world, &mut victim).await;
        victim.kill().await;
    } else if !dial && !accept {
        failed_after = traffic.after_death(cell, world, &mut victim, died).await;
    }
    traffic.end(world).await;
    world.settled().await;
    failed_after
}
