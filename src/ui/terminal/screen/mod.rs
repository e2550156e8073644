//! Owns the terminal. Standard error has lines, a live view below them, and a prompt below that; standard output has
//! the answer as it is written. One thread writes both.
//! Only [`Screen::flush`] waits for the output to accept text.

mod device;
mod frame;
mod handle;
#[cfg(test)]
pub(crate) mod memory;
mod overlay;
mod paint;
mod state;
#[cfg(test)]
mod tests;
mod thread;
mod wrap;

pub use device::{Device, OutputStream, ScreenCapabilities, ScreenSize};
pub use frame::{InputLine, LiveRegion, PromptStatus};
pub use handle::Screen;
pub use overlay::{OpenAnswer, OpenPrompt, ScreenPause};
