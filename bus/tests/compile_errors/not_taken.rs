use shmbus::prelude::*;

#[derive(ShmMessage)]
pub struct Reserve {
    pub qty: u32,
}

#[derive(ShmMessage)]
pub struct Release {
    pub qty: u32,
}

#[derive(ShmMessage)]
pub struct Close;

pub struct Plain;

async fn tells(one: Address<Reserve>, two: Address<(Reserve, Release)>, bus: Bus) {
    let _ = one.try_tell(&Release { qty: 1 });
    let _ = two.ask(&Close).await;
    let _ = bus.address::<Plain>("plain");
}

fn main() {}
