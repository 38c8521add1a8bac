//! The terminal, taken and given back.

use std::{
    io::{self, IsTerminal},
    time::Duration,
};

use nix::{
    sys::termios::{SetArg, Termios, tcgetattr, tcsetattr},
    unistd::{getpgrp, tcgetpgrp},
};
use ratatui::{
    DefaultTerminal,
    crossterm::{
        cursor::Show,
        event::{self, Event, KeyCode, KeyModifiers},
        execute,
        terminal::LeaveAlternateScreen,
    },
};

use crate::{model::Model, table};

/// The whole terminal, until dropped.
pub struct Screen {
    terminal: DefaultTerminal,
}

impl Screen {
    /// Takes the terminal; none if there is none to take.
    pub fn open() -> io::Result<Option<Self>> {
        if !is_ours() {
            return Ok(None);
        }
        Ok(Some(Self {
            terminal: ratatui::try_init()?,
        }))
    }

    /// Draws the model.
    pub fn draw(&mut self, model: &Model) -> io::Result<()> {
        self.terminal.draw(|frame| table::draw(frame, model)).map(drop)
    }

    /// Whether a key that ends was pressed. Does not wait. While the terminal is taken, Ctrl-C is a key as well.
    pub fn wants_to_end(&mut self) -> io::Result<bool> {
        let mut end = false;
        while event::poll(Duration::ZERO)? {
            if let Event::Key(key) = event::read()? {
                end |= match key.code {
                    KeyCode::Char('q') | KeyCode::Esc => true,
                    KeyCode::Char('c') => key.modifiers.contains(KeyModifiers::CONTROL),
                    _ => false,
                };
            }
        }
        Ok(end)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// The terminal's settings as they were, for the case that the viewer dies before it can restore them.
pub struct Saved {
    termios: Termios,
}

impl Saved {
    /// Remembers the settings of the terminal, if there is one.
    pub fn now() -> Option<Self> {
        if !is_ours() {
            return None;
        }
        Some(Self {
            termios: tcgetattr(io::stdout()).ok()?,
        })
    }

    /// Sets them again.
    pub fn restore(&self) -> io::Result<()> {
        tcsetattr(io::stdout(), SetArg::TCSANOW, &self.termios)?;
        execute!(io::stdout(), LeaveAlternateScreen, Show)
    }
}

/// Whether stdout is a terminal that this process may steer. A job in the background would be stopped for it.
fn is_ours() -> bool {
    let stdout = io::stdout();
    stdout.is_terminal()
        && io::stdin().is_terminal()
        && tcgetpgrp(stdout).is_ok_and(|group| group == getpgrp())
}
