//! What is typed, and the screen beside it: at a terminal a line that can be edited, with those
//! before it, below which messages of the gateway appear; elsewhere plain lines.

use std::fmt::Display;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use parking_lot::Mutex;
use rustyline::history::MemHistory;
use rustyline::{Config, Editor, ExternalPrinter};

/// What stands before a line at a terminal.
const PROMPT: &str = "> ";

/// Lines that are remembered.
const HISTORY: usize = 200;

type Terminal = Editor<(), MemHistory>;

/// Where messages appear.
pub(super) struct Screen {
    /// Writes above the line that is being typed.
    above: Option<Mutex<Box<dyn ExternalPrinter + Send>>>,
    /// Whether colours are wanted.
    pub(super) color: bool,
}

/// Where lines come from.
pub(super) enum Keyboard {
    Terminal(Box<Terminal>),
    Plain,
}

/// Screen and keyboard of this process.
pub(super) fn open() -> (Screen, Keyboard) {
    let is_shown = io::stdout().is_terminal();
    let color = is_shown && std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty());
    let opened = (is_shown && io::stdin().is_terminal())
        .then(terminal)
        .and_then(Result::ok);
    match opened {
        Some((editor, printer)) => {
            let above = Some(Mutex::new(printer));
            (Screen { above, color }, Keyboard::Terminal(editor))
        }
        None => (Screen { above: None, color }, Keyboard::Plain),
    }
}

type Opened = (Box<Terminal>, Box<dyn ExternalPrinter + Send>);

fn terminal() -> rustyline::Result<Opened> {
    let config = Config::builder().max_history_size(HISTORY)?;
    let config = config.auto_add_history(true).build();
    let mut editor = Editor::with_history(config, MemHistory::new())?;
    let printer = Box::new(editor.create_external_printer()?);
    Ok((Box::new(editor), printer))
}

impl Screen {
    /// Shows a line. What would act on the terminal has been escaped by now.
    pub(super) fn show(&self, line: impl Display) {
        let line = format!("{line}\n");
        if let Some(printer) = &self.above {
            let _ = printer.lock().print(line);
        } else {
            let mut stdout = io::stdout().lock();
            // Nobody may read it any more.
            let _ = stdout.write_all(line.as_bytes());
            let _ = stdout.flush();
        }
    }
}

impl Keyboard {
    /// Calls `act` for each line until it says that it is enough; whether the end of the input, or
    /// control-C at a terminal, came before.
    pub(super) fn lines(self, mut act: impl FnMut(&str) -> bool) -> bool {
        match self {
            Self::Terminal(mut editor) => {
                while let Ok(line) = editor.readline(PROMPT) {
                    if !act(&line) {
                        return false;
                    }
                }
            }
            Self::Plain => {
                for line in io::stdin().lock().lines().map_while(Result::ok) {
                    if !act(&line) {
                        return false;
                    }
                }
            }
        }
        true
    }
}
