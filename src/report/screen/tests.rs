use super::{memory::Memory, *};

fn screen(live: bool) -> (Screen, Memory) {
    let memory = Memory::default();
    (Screen::over(memory.clone(), Abilities { live, colour: false }).expect("a thread"), memory)
}

#[test]
fn writes_every_line_before_it_is_dropped() {
    let (screen, memory) = screen(false);
    let other = screen.clone();
    let lines: Vec<_> = (0..MAX_UNHURRIED).map(|n| n.to_string()).collect();
    for line in &lines {
        other.println(line);
    }
    drop(screen);
    drop(other);
    assert_eq!(memory.text(), lines.join("\n") + "\n");
}

/// A device whose writes wait until each is allowed.
#[derive(Clone, Default)]
struct Stalled {
    memory: Memory,
    writes: Arc<(Mutex<Writes>, Condvar)>,
}

#[derive(Default)]
struct Writes {
    started: usize,
    allowed: usize,
}

impl Stalled {
    fn wait_until_started(&self, writes: usize) {
        let (state, changed) = &*self.writes;
        let state = state.lock().expect("no panic");
        drop(changed.wait_while(state, |state| state.started < writes).expect("no panic"));
    }

    fn allow(&self, writes: usize) {
        let (state, changed) = &*self.writes;
        state.lock().expect("no panic").allowed = writes;
        changed.notify_all();
    }
}

impl Device for Stalled {
    fn write(&mut self, output: Output, text: &str) {
        let (state, changed) = &*self.writes;
        let mut state = state.lock().expect("no panic");
        state.started += 1;
        changed.notify_all();
        let write = state.started;
        drop(changed.wait_while(state, |state| state.allowed < write).expect("no panic"));
        self.memory.write(output, text);
    }
    fn size(&self) -> Size {
        self.memory.size()
    }
}

#[test]
fn an_output_that_accepts_nothing_never_blocks_a_line() {
    let device = Stalled::default();
    let screen = Screen::over(device.clone(), Abilities { live: false, colour: false }).expect("a thread");
    let line = "x".repeat(1023);
    let printed = 3 * MAX_WAITING / line.len();
    let kept = MAX_WAITING / line.len();
    screen.println("first");
    // Lines are printed only while a write is stalled, so that the thread cannot make room among them. The second
    // write has all that waited for the first one, and further lines wait for it.
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
    let omitted = format!("… {} lines left out because the output accepted none", printed - kept);
    for _ in 1..=2 {
        let shown = lines.by_ref().take(kept).filter(|shown| *shown == line).count();
        assert_eq!(shown, kept, "of {printed}");
        let note = lines.next();
        assert!(note.is_some_and(|note| note.starts_with(&omitted)), "{note:?}");
    }
    assert_eq!(lines.collect::<Vec<_>>(), ["last"]);
}

#[test]
fn lines_are_safe_whatever_they_hold() {
    for (colour, shown) in [(false, "\\u{1b}[2J\\u{200b}red\n"), (true, "\\u{1b}[2J\\u{200b}\x1b[31mred\x1b[0m\n")] {
        let memory = Memory::default();
        let screen = Screen::over(memory.clone(), Abilities { live: false, colour }).expect("a thread");
        screen.println("\x1b[2J\u{200b}\x1b[31mred\x1b[0m");
        drop(screen);
        assert_eq!(memory.text(), shown);
    }
}

#[test]
fn lines_and_the_view_wait_while_a_prompt_is_open() {
    let (screen, memory) = screen(true);
    screen.show(Arc::new(|_| vec!["working".to_owned()]));
    screen.flush();
    screen.println("before");
    screen.flush();
    assert_eq!(memory.text(), "working\n\x1b[1A\r\x1b[Jbefore\nworking\n");
    let shown = memory.text().len();

    let prompt = screen.prompt();
    prompt.lines(["Proceed?"]);
    prompt.write("> ");
    screen.println("meanwhile");
    screen.flush();
    assert_eq!(&memory.text()[shown..], "\x1b[1A\r\x1b[JProceed?\n> ");
    prompt.typed();
    drop(prompt);
    screen.flush();
    assert_eq!(&memory.text()[shown..], "\x1b[1A\r\x1b[JProceed?\n> meanwhile\nworking\n");
    screen.hide();
    drop(screen);
    assert!(memory.text().ends_with("working\n\x1b[1A\r\x1b[J"), "{:?}", memory.text());
}

#[test]
fn more_lines_than_a_prompt_can_hold_are_written_all_the_same() {
    let (screen, memory) = screen(true);
    let prompt = screen.prompt();
    prompt.write("> ");
    for n in 0..=MOST_HELD {
        screen.println(n.to_string());
    }
    screen.flush();
    assert!(memory.text().starts_with("> \n0\n1\n") && memory.text().ends_with(&format!("\n{MOST_HELD}\n")));
}

#[test]
fn without_a_live_screen_nothing_waits_and_no_view_is_drawn() {
    let (screen, memory) = screen(false);
    screen.show(Arc::new(|_| vec!["working".to_owned()]));
    let prompt = screen.prompt();
    prompt.write("> ");
    prompt.typed();
    screen.println("meanwhile");
    screen.suspend(|| assert_eq!(memory.text(), "> meanwhile\n"));
}

#[test]
fn lines_and_the_view_wait_while_an_answer_is_written() {
    for live in [true, false] {
        let (screen, memory) = screen(live);
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
fn a_view_that_panics_takes_nobody_with_it() {
    let (screen, memory) = screen(true);
    assert!(!screen.has_failed());
    screen.show(Arc::new(|_| panic!("a mistake in a view")));
    screen.flush();
    screen.println("nobody writes this");
    screen.flush();
    drop(screen.prompt());
    assert!(screen.has_failed());
    drop(screen);
    assert_eq!(memory.text(), FAILED);
}

#[test]
fn a_device_that_panics_takes_nobody_with_it() {
    struct Broken;
    impl Device for Broken {
        fn write(&mut self, _: Output, _: &str) {
            panic!("a mistake in a device")
        }
        fn size(&self) -> Size {
            Size::default()
        }
    }
    let screen = Screen::over(Broken, Abilities { live: false, colour: false }).expect("a thread");
    screen.println("nobody reads this");
    screen.flush();
    assert!(screen.has_failed());
}
