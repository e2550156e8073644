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

/// A device that accepts nothing until it is released.
#[derive(Clone)]
struct Stalled(Memory, Arc<(Mutex<bool>, Condvar)>);

impl Device for Stalled {
    fn write(&mut self, output: Output, text: &str) {
        let (released, changed) = &*self.1;
        let released = released.lock().expect("no panic");
        drop(changed.wait_while(released, |released| !*released).expect("no panic"));
        self.0.write(output, text);
    }
    fn size(&self) -> Size {
        self.0.size()
    }
}

#[test]
fn an_output_that_accepts_nothing_never_blocks_a_line() {
    let memory = Memory::default();
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let device = Stalled(memory.clone(), Arc::clone(&gate));
    let screen = Screen::over(device, Abilities { live: false, colour: false }).expect("a thread");
    let line = "x".repeat(1023);
    let printed = 3 * MAX_WAITING / line.len();
    for _ in 0..printed {
        screen.println(line.clone());
    }
    *gate.0.lock().expect("no panic") = true;
    gate.1.notify_all();
    screen.flush();
    screen.println("last");
    drop(screen);
    let text = memory.text();
    let kept = text.lines().filter(|shown| **shown == line).count();
    assert!(kept >= MAX_WAITING / 1024 && kept < printed, "{kept} of {printed}");
    let omitted = format!("… {} lines left out because the output accepted none", printed - kept);
    let mut end = text.lines().skip(kept);
    assert!(end.next().is_some_and(|note| note.starts_with(&omitted)), "{:?}", text.lines().nth(kept));
    assert_eq!(end.collect::<Vec<_>>(), ["last"]);
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
    prompt.typed("yes", Typed::OnTerminal);
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
    prompt.typed("y", Typed::ThroughPipe);
    screen.println("meanwhile");
    screen.suspend(|| assert_eq!(memory.text(), "> y\nmeanwhile\n"));
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
    let (screen, _) = screen(true);
    screen.show(Arc::new(|_| panic!("a mistake in a view")));
    screen.flush();
    screen.println("nobody writes this");
    screen.flush();
}
