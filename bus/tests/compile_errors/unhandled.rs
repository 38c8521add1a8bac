use actix::prelude::*;
use shmbus::prelude::*;

#[derive(ShmMessage)]
pub struct Reserve {
    pub qty: u32,
}

#[derive(ShmMessage)]
pub struct Release {
    pub qty: u32,
}

struct Inventory;

impl Actor for Inventory {
    type Context = Context<Self>;
}

impl Handler<Received<Reserve>> for Inventory {
    type Result = ();
    fn handle(&mut self, _: Received<Reserve>, _: &mut Context<Self>) {}
}

async fn binds(bus: Bus) {
    let _ = bus.bind("a", Inventory).handles::<Release>().start().await;
    let _ = bus.bind_addr("b", Inventory.start()).handles::<Release>().start().await;
}

fn main() {}
