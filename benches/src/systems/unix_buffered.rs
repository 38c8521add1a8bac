//! A blocking Unix socket with 64 KiB buffers on both sides: many small messages per system call.

use std::io::{BufRead, BufReader, BufWriter, Read, Write};

use super::unix::{self, BEGIN, END, mark};
use crate::{
    Result,
    case::{Case, Run},
    meter::{Meter, Tally, phases},
    payload,
    report::Driven,
};

const BUFFER: usize = 64 << 10;

/// See [`super::System::serve`].
pub(super) fn serve(run: &Run, ready: fn()) -> Result<()> {
    let socket = unix::accept(run, ready)?;
    let mut output = BufWriter::with_capacity(BUFFER, socket.try_clone()?);
    let mut input = BufReader::with_capacity(BUFFER, socket);
    let (mut frame, mut tally) = (vec![0; run.payload], Tally::default());
    loop {
        // Messages that lie in the buffer whole are read there.
        let mut whole = 0;
        for frame in input.buffer().chunks_exact(run.payload) {
            whole += run.payload;
            if unix::take(frame, &mut tally, run.case) {
                output.write_all(frame)?;
            }
        }
        input.consume(whole);
        // About to wait: let go of what was gathered.
        output.flush()?;
        if input.buffer().is_empty() && run.payload < BUFFER {
            if input.fill_buf()?.is_empty() {
                return Ok(());
            }
            continue;
        }
        match input.read_exact(&mut frame) {
            Err(error) if unix::is_end(&error) => return Ok(()),
            done => done?,
        }
        if unix::take(&frame, &mut tally, run.case) {
            output.write_all(&frame)?;
        }
    }
}

/// See [`super::System::drive`].
pub(super) fn drive(run: &Run) -> Result<Driven> {
    let mut socket = unix::connect(run)?;
    let mut frame = vec![0; run.payload];
    let mut driven = Driven::default();
    for (_, lasts) in phases(run) {
        mark(&mut socket, &mut frame, BEGIN)?;
        let mut meter = Meter::start(run, lasts);
        if run.case == Case::Tell {
            let mut output = BufWriter::with_capacity(BUFFER, &socket);
            while !meter.is_over() {
                payload::write(&mut frame, meter.send());
                output.write_all(&frame)?;
            }
            output.flush()?;
            drop(output);
            mark(&mut socket, &mut frame, END)?;
            driven = meter.stop();
        } else {
            unix::pipeline(&mut socket, run.payload, BUFFER, &mut meter)?;
            driven = meter.stop();
            mark(&mut socket, &mut frame, END)?;
        }
    }
    Ok(driven)
}
