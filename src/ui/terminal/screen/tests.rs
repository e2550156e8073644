use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use super::device::{Device, OutputStream, ScreenCapabilities, ScreenSize};
use super::frame::InputLine;
use super::handle::Screen;
use super::memory::MemoryDevice;
use super::state::{MAX_DEFERRED_BYTES, MAX_HELD_LINES, MAX_QUEUED_BYTES};
use super::thread::FAILED;

fn memory_screen(live: bool) -> (Screen, MemoryDevice) {
    let memory = MemoryDevice::default();
    (Screen::with_device(memory.clone(), ScreenCapabilities { live, color: false }).expect("a thread"), memory)
}

#[test]
fn drop_writes_all_lines() {
    let (screen, memory) = memory_screen(false);
    let other = screen.clone();
    let lines: Vec<_> = (0..MAX_DEFERRED_BYTES).map(|n| n.to_string()).collect();
    for line in &lines {
        other.println(line);
    }
    drop(screen);
    drop(other);
    assert_eq!(memory.text(), lines.join("\n") + "\n");
}

/// A device whose writes block until the test allows each one.
#[derive(Clone, Default)]
struct StalledDevice {
    memory: MemoryDevice,
    writes: Arc<(Mutex<WriteGate>, Condvar)>,
}

#[derive(Default)]
struct WriteGate {
    started: usize,
    allowed: usize,
}

impl StalledDevice {
    fn wait_until_started(&self, writes: usize) {
        let (state, changed) = &*self.writes;
        changed.wait_while(&mut state.lock(), |state| state.started < writes);
    }

    fn allow(&self, writes: usize) {
        let (state, changed) = &*self.writes;
        state.lock().allowed = writes;
        changed.notify_all();
    }
}

impl Device for StalledDevice {
    fn write(&mut self, output: OutputStream, text: &str) {
        let (state, changed) = &*self.writes;
        let mut state = state.lock();
        state.started += 1;
        changed.notify_all();
        let write = state.started;
        changed.wait_while(&mut state, |state| state.allowed < write);
        drop(state);
        self.memory.write(output, text);
    }
    fn size(&self) -> ScreenSize {
        self.memory.size()
    }
}

#[test]
fn stalled_output_never_blocks_println() {
    let device = StalledDevice::default();
    let screen =
        Screen::with_device(device.clone(), ScreenCapabilities { live: false, color: false }).expect("a thread");
    let line = "x".repeat(1023);
    let printed = 3 * MAX_QUEUED_BYTES / line.len();
    let kept = MAX_QUEUED_BYTES / line.len();
    screen.println("first");
    // Lines are printed only while a write is stalled, so that the thread cannot make room for them. The second write
    // contains everything that waited for the first one, and further lines wait for it.
    for stalled in 1..=2 {
        device.wait_until_started(stalled);
        for _ in 0..printed {
            screen.println(line.clone());
        }
        device.allow(stalled);
    }
    device.allow(usize::MAX);
    screen.flush();
    screen.println("last");
    drop(screen);
    let text = device.memory.text();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("first"));
    let omitted = format!("… {} lines dropped because the output is blocked", printed - kept);
    for _ in 1..=2 {
        let shown = lines.by_ref().take(kept).filter(|shown| *shown == line).count();
        assert_eq!(shown, kept, "of {printed}");
        let notice = lines.next();
        assert!(notice.is_some_and(|notice| notice.starts_with(&omitted)), "{notice:?}");
    }
    assert_eq!(lines.collect::<Vec<_>>(), ["last"]);
}

#[test]
fn lines_are_escaped() {
    for (color, shown) in [(false, "\\u{1b}[2J\\u{200b}red\n"), (true, "\\u{1b}[2J\\u{200b}\x1b[31mred\x1b[0m\n")] {
        let memory = MemoryDevice::default();
        let screen = Screen::with_device(memory.clone(), ScreenCapabilities { live: false, color }).expect("a thread");
        screen.println("\x1b[2J\u{200b}\x1b[31mred\x1b[0m");
        drop(screen);
        assert_eq!(memory.text(), shown);
    }
}

fn input(text: &str) -> InputLine {
    InputLine { label: "> ".to_owned(), text: text.to_owned(), cursor: text.len() }
}

#[test]
fn prompt_stays_below_lines_and_view() {
    let (screen, memory) = memory_screen(true);
    screen.show(Arc::new(|_| vec!["working".to_owned()]));
    screen.flush();
    screen.println("before");
    screen.flush();
    assert_eq!(memory.text(), "working\n\x1b[1A\r\x1b[Jbefore\nworking\n");
    let shown = memory.text().len();

    let prompt = screen.prompt();
    prompt.write_lines(["Proceed?"]);
    prompt.show_input(input("y"));
    screen.flush();
    let text = memory.text();
    assert!(text.ends_with("\r\x1b[Jworking\nProceed?\n> y"), "{text:?}");
    screen.println("meanwhile");
    screen.flush();
    let text = memory.text();
    assert!(text.ends_with("\x1b[2A\r\x1b[Jmeanwhile\nworking\nProceed?\n> y"), "{text:?}");
    prompt.end_input();
    drop(prompt);
    screen.flush();
    let text = memory.text();
    assert!(text.len() > shown && text.ends_with("\r\x1b[JProceed?\n> y\nworking\n"), "{text:?}");
    screen.hide();
    drop(screen);
    assert!(memory.text().ends_with("working\n\x1b[1A\r\x1b[J"), "{:?}", memory.text());
}

#[test]
fn second_prompt_is_shown_after_the_first() {
    let (screen, memory) = memory_screen(true);
    let (first, second) = (screen.prompt(), screen.prompt());
    first.write_lines(["First?"]);
    second.write_lines(["Second?"]);
    screen.flush();
    assert!(memory.text().contains("First?") && !memory.text().contains("Second?"), "{:?}", memory.text());
    drop(first);
    screen.flush();
    assert!(memory.text().contains("Second?"), "{:?}", memory.text());
}

#[test]
fn pause_erases_the_frame_and_delays_lines() {
    let (screen, memory) = memory_screen(true);
    screen.show(Arc::new(|_| vec!["working".to_owned()]));
    screen.flush();
    let pause = screen.pause();
    let text = memory.text();
    assert!(text.ends_with("working\n\x1b[1A\r\x1b[J"), "{text:?}");
    screen.println("meanwhile");
    screen.flush();
    assert_eq!(memory.text(), text);
    drop(pause);
    screen.flush();
    assert_eq!(memory.text(), text + "meanwhile\nworking\n");
}

#[test]
fn excess_held_lines_are_written() {
    let (screen, memory) = memory_screen(true);
    let answer = screen.answer();
    answer.write("It");
    for n in 0..=MAX_HELD_LINES {
        screen.println(n.to_string());
    }
    screen.flush();
    assert!(memory.text().starts_with("It\n0\n1\n") && memory.text().ends_with(&format!("\n{MAX_HELD_LINES}\n")));
}

#[test]
fn non_live_screen_holds_nothing() {
    let (screen, memory) = memory_screen(false);
    screen.show(Arc::new(|_| vec!["working".to_owned()]));
    let prompt = screen.prompt();
    prompt.show_input(input(""));
    prompt.end_input();
    screen.println("meanwhile");
    screen.flush();
    assert_eq!(memory.text(), "> meanwhile\n");
}

#[test]
fn answer_holds_lines_and_view() {
    for live in [true, false] {
        let (screen, memory) = memory_screen(live);
        screen.show(Arc::new(|_| vec!["working".to_owned()]));
        screen.flush();
        let shown = memory.text().len();
        let answer = screen.answer();
        answer.write("It is");
        screen.println("meanwhile");
        screen.flush();
        answer.write(" green.");
        drop(answer);
        screen.flush();
        let erased = if live { "\x1b[1A\r\x1b[J" } else { "" };
        let drawn = if live { "working\n" } else { "" };
        assert_eq!(memory.text()[shown..], format!("{erased}It is green.\nmeanwhile\n{drawn}"));
    }
}

#[test]
fn panicking_view_does_not_block_callers() {
    let (screen, memory) = memory_screen(true);
    assert!(!screen.has_failed());
    screen.show(Arc::new(|_| panic!("a mistake in a view")));
    screen.flush();
    screen.println("never written");
    screen.flush();
    drop(screen.prompt());
    assert!(screen.has_failed());
    drop(screen);
    assert_eq!(memory.text(), FAILED);
}

#[test]
fn panicking_device_does_not_block_callers() {
    struct PanickingDevice;
    impl Device for PanickingDevice {
        fn write(&mut self, _: OutputStream, _: &str) {
            panic!("a mistake in a device")
        }
        fn size(&self) -> ScreenSize {
            ScreenSize::default()
        }
    }
    let screen =
        Screen::with_device(PanickingDevice, ScreenCapabilities { live: false, color: false }).expect("a thread");
    screen.println("never read");
    screen.flush();
    assert!(screen.has_failed());
}
