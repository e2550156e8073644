//! Agents files: what they mean, and what is said of those that mean nothing.

use std::{path::PathBuf, time::Duration};

use super::*;
use crate::model::{
    AgentPolicy, AgentSpec, ChildProcess, Consent, LlmSpec, MaxTokensField, Protocol, SamplingPolicy, Span, Transport,
};

#[test]
fn an_agents_file_means_what_it_says() {
    let text = r#"
        [llm]
        base_url = "${BASE:-http://127.0.0.1:11434/v1}"
        model = "qwen3:8b"
        api_key_env_var = "KEY"
        max_tokens_field = "max_completion_tokens"
        timeout = "30s"
        http_headers = { x-org = "${ORG}" }

        [agents.travel]
        command = "${KAPELL}"
        args = ["demo-agent", "travel", "costs $5, $$HOME is ${HOME}"]
        env = { TOKEN = "${KEY}" }
        env_vars = ["HOME", "UNSET"]
        cwd = "/tmp"
        required = true
        max_processes = 3
        sampling = { policy = "ask", max_tokens = 5000, max_requests = 10 }
        capabilities = ["booking"]

        [agents.research]
        command = "${KAPELL}"
        args = ["demo-agent", "research", "--http", "${PORT}"]
        url = "http://127.0.0.1:${PORT}/mcp"
        http_headers = { X-A = "1" }
        env_http_headers = { X-B = "KEY" }
        bearer_token_env_var = "KEY"
        protocol = "legacy"
        max_concurrency = 4
        startup_timeout = "10s"
        tool_timeout = "1m"
        effect = "read_only"
        sampling = "deny"
        enabled_tools = ["search"]
        disabled_tools = ["delete"]
        capabilities = { web-search = "search" }

        [agents.off]
        url = "${NOT_SET}"
        enabled = false
    "#;
    let environment = Made::of(&[("HOME", "/root"), ("KEY", "hunter2"), ("ORG", "acme")]);
    let file = parse_agents("agents.toml", text, &environment).unwrap_or_else(|errors| panic!("{errors}"));
    let seconds = Duration::from_secs;
    let travel = AgentSpec {
        id: "travel".into(),
        transport: Transport::Stdio(ChildProcess {
            command: "/opt/kapell".to_owned(),
            args: vec!["demo-agent".to_owned(), "travel".to_owned(), "costs $5, $HOME is /root".to_owned()],
            env: [("HOME", "/root"), ("TOKEN", "hunter2")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            cwd: Some(PathBuf::from("/tmp")),
        }),
        protocol: Protocol::Auto,
        startup_timeout: seconds(30),
        max_processes: 3,
        sampling: SamplingPolicy { consent: Consent::Ask, max_tokens: Some(5_000), max_requests: Some(10) },
        policy: AgentPolicy { required: true, max_concurrency: 8, tool_timeout: Span(seconds(300)), effect: None },
        enabled_tools: None,
        disabled_tools: vec![],
        capabilities: [("booking".to_owned(), None)].into(),
    };
    let research = AgentSpec {
        id: "research".into(),
        transport: Transport::Http {
            url: "http://127.0.0.1:40123/mcp".to_owned(),
            headers: vec![("X-A".to_owned(), "1".to_owned()), ("X-B".to_owned(), "hunter2".to_owned())],
            bearer_token: Some("hunter2".to_owned()),
            server: Some(ChildProcess {
                command: "/opt/kapell".to_owned(),
                args: ["demo-agent", "research", "--http", "40123"].map(str::to_owned).to_vec(),
                env: [].into(),
                cwd: None,
            }),
        },
        protocol: Protocol::Legacy,
        startup_timeout: seconds(10),
        max_processes: 1,
        sampling: SamplingPolicy { consent: Consent::Deny, ..SamplingPolicy::default() },
        policy: AgentPolicy {
            required: false,
            max_concurrency: 4,
            tool_timeout: Span(seconds(60)),
            effect: Some(Effect::ReadOnly),
        },
        enabled_tools: Some(vec!["search".to_owned()]),
        disabled_tools: vec!["delete".to_owned()],
        capabilities: [("web-search".to_owned(), Some("search".to_owned()))].into(),
    };
    let llm = LlmSpec {
        base_url: "http://127.0.0.1:11434/v1".to_owned(),
        model: "qwen3:8b".to_owned(),
        api_key: Some("hunter2".to_owned()),
        max_tokens_field: MaxTokensField::MaxCompletionTokens,
        timeout: seconds(30),
        headers: vec![("x-org".to_owned(), "acme".to_owned())],
    };
    assert_eq!(
        file,
        AgentsFile {
            agents: [(travel.id.clone(), travel), (research.id.clone(), research)].into(),
            disabled: vec!["off".into()],
            llm: Some(llm),
        }
    );
    assert!(!format!("{file:?}").contains("hunter2"), "{file:?}");
}

#[test]
fn sampling_is_allowed_without_bounds_where_the_file_says_nothing() {
    let policy = |line: &str| {
        let text = format!("[agents.a]\ncommand = \"x\"\n{line}");
        let file = parse_agents("agents.toml", &text, &Made::of(&[])).unwrap_or_else(|errors| panic!("{errors}"));
        (file.agents["a"].sampling, file.agents["a"].max_processes)
    };
    let allow = SamplingPolicy { consent: Consent::Allow, max_tokens: None, max_requests: None };
    assert_eq!(policy(""), (allow, 1));
    assert_eq!(policy("sampling = \"allow\""), (allow, 1));
    assert_eq!(policy("sampling = { max_requests = 2 }"), (SamplingPolicy { max_requests: Some(2), ..allow }, 1));
}

#[test]
fn every_mistake_of_an_agents_file_is_told_at_once() {
    let environment = Made::of(&[("SECRET", "hunter2\n"), ("TIME", "hunter2")]);
    let errors =
        parse_agents("agents.toml", include_str!("broken.toml"), &environment).expect_err("the file is broken");
    let report = rendered(&errors);
    assert!(!report.contains("hunter2"), "{report}");
    insta::assert_snapshot!(report);
}

#[test]
fn no_report_shows_a_secret() {
    for text in [
        "[llm]\nbase_url = \"http://x\"\nmodel = \"m\"\napi_key = \"hunter2\"",
        "[llm]\nbase_url = \"ftp://u:hunter2@x\"\nmodel = \"m\"",
        "[llm]\nbase_url = \"http://x\"\nmodel = \"m\"\napi_key_env_var = \"sk-hunter2\"",
        "[agents.a]\nhttp_headers = { A = \"hunter2\" }\ncomand = \"x\"",
        "[agents.a]\nhttp_headers = { A = \"hunter2\\n\" }\nurl = \"http://x\"",
        "[agents.a]\nenv = { A = 'hunter2' }\nrequired = 1",
        "[agents.a]\ncommand = \"x\"\nenv = \"A=hunter2\"",
        "[agents.a]\nurl = \"http://x\"\nenv_http_headers = { A = \"Bearer hunter2\" }",
        "[agents.a]\nurl = \"http://x\"\nbearer_token = \"ähunter2\"",
        "[agents.a]\nenv = { A = \"hunter2 }\nb = = 'hunter2'",
        "agents = [\"hunter2\"]\nx = 'hunter2'",
    ] {
        let errors = parse_agents("agents.toml", text, &Made::of(&[])).expect_err(text);
        let shown = format!("{}{errors}{}{errors:?}", rendered(&errors), serde_json::json!(errors));
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

#[test]
fn all_mistakes_of_syntax_are_told() {
    let errors = parse_agents("agents.toml", "x = \ny = 1 2\nz = '\n", &Made::of(&[])).expect_err("no TOML");
    assert!(errors.list().iter().all(|found| found.code == "agents::syntax" && found.position.is_some()), "{errors}");
    assert!(errors.errors() > 1, "{errors}");
}

#[test]
fn a_file_that_is_not_there_is_told_with_what_to_do() {
    let errors = load_agents(&PathBuf::from("/nonexistent/agents.toml"), &Made::of(&[])).expect_err("no file");
    let [found] = errors.list() else { panic!("{errors}") };
    assert_eq!(found.code, "file::unreadable");
    assert!(found.help.as_deref().is_some_and(|help| help.contains("--agents")), "{errors}");
}

#[test]
fn an_empty_file_has_no_agents() {
    assert_eq!(
        parse_agents("agents.toml", "", &Made::of(&[])).map_err(|errors| errors.to_string()),
        Ok(AgentsFile::default())
    );
}
