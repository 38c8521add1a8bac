//! The tables: each field, the values it is given, and what must come of each. One table per file.

mod answers;
mod denied;
mod descriptors;
mod frames;
mod slots;
mod words;

pub use answers::answers;
pub use denied::denied;
pub use descriptors::descriptors;
pub use frames::frames;
pub use slots::{honest, slots};
pub use words::words;

use crate::peer::{Rig, Stage};

#[derive(Debug, Clone, Copy)]
pub enum Expect {
    /// The session is closed, counted as a violation, with a reason that has these words.
    Closed(&'static str),
    /// The session is closed as by a hang-up, for this reason.
    HungUp(&'static str),
    /// Nothing happens but what this says.
    Harmless(&'static str),
}

pub struct Row {
    pub stage: Stage,
    pub area: &'static str,
    pub field: &'static str,
    pub value: String,
    pub expect: Expect,
    /// What the victim is told to do then.
    pub then: &'static str,
    pub act: Box<dyn FnOnce(&mut Rig)>,
}

impl Row {
    pub fn new(
        stage: Stage,
        (area, field): (&'static str, &'static str),
        value: impl ToString,
        expect: Expect,
        act: impl FnOnce(&mut Rig) + 'static,
    ) -> Self {
        Self {
            stage,
            area,
            field,
            value: value.to_string(),
            expect,
            then: "",
            act: Box::new(act),
        }
    }

    pub fn then(self, command: &'static str) -> Self {
        Self {
            then: command,
            ..self
        }
    }
}
