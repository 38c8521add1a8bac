use shmbus::ShmType;

#[derive(ShmType)]
union Either {
    a: u32,
    b: f32,
}

fn main() {}
