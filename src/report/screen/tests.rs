use super::{memory::Memory, *};

fn screen(live: bool) -> (Screen, Memory) {
    let memory = Memory::default();
    (Screen::over(memory.clone(), Abilities { live, colour: false }).expect("a thread"), memory)
}

#[test]
fn writes_every_line_before_it_goes() {
    let (screen, memory) = screen(false);
    let other = screen.clone();
    let lines: Vec<_> = (0..MOST_WAITING / 2).map(|n| n.to_string()).collect();
    for line in &lines {
        other.println(line);
    }
    drop(screen);
    drop(other);
    assert_eq!(memory.text(), lines.join("\n") + "\n");
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
