//! Tests of agents files: values, defaults, and diagnostics.

use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::config::schema::misnamed::correct_key;
use crate::model::{
    AgentPolicy, AgentRoot, AgentSpec, ChildProcess, Consent, Dialect, ForcedToolChoice, HumanDuration, LlmSpec,
    LogLevel, MaxTokensField, NetworkSettings, OAuthGrant, OAuthSpec, Prices, Protocol, RequestSettings,
    SamplingPolicy, SchemaChecks, Scores, Secrets, StructuredOutput, SystemRole, Transport,
};

/// Returns the path of a file beside `agents.toml`.
fn beside_the_file(name: &str) -> PathBuf {
    std::env::current_dir().expect("a directory").join(name)
}

#[test]
fn relative_paths_start_at_the_agents_file() {
    let text = "[agents.a]\ncommand = \"./bin/server\"\ncwd = \"data\"\n[agents.b]\ncommand = \"server\"\n\
                [agents.c]\ncommand = \"/bin/server\"\nroots = [\"notes\"]\n";
    let file = parse_agents("/project/agents.toml", text, &TestEnvironment::of(&[])).expect("agents");
    let child = |name: &str| file.agents[name].transport.child_process().expect("a program").clone();
    assert_eq!(child("a").command, "/project/bin/server");
    assert_eq!(child("a").cwd, Some(PathBuf::from("/project/data")));
    assert_eq!((child("b").command.as_str(), child("b").cwd), ("server", None));
    assert_eq!(
        (child("c").command.as_str(), &*file.agents["c"].roots[0].uri),
        ("/bin/server", "file:///project/notes")
    );
}

#[test]
fn agents_of_the_project_override_those_of_the_user() {
    let parse =
        |text: &str| parse_agents("agents.toml", text, &TestEnvironment::of(&[("TOKEN", "hunter22")])).expect("agents");
    let model = |table: &str| format!("[{table}]\nbase_url = \"http://h/v1\"\nmodel = \"m\"\n");
    let project = parse(&format!(
        "[agents.a]\ncommand = \"project\"\n[agents.b]\ncommand = \"b\"\nenabled = false\n{}",
        model("models.small")
    ));
    let user = parse(&format!(
        "[agents.a]\ncommand = \"user\"\n[agents.b]\ncommand = \"b\"\n[agents.c]\nurl = \"http://h/\"\n\
         bearer_token_env_var = \"TOKEN\"\n[agents.d]\ncommand = \"d\"\nenabled = false\n{}{}[planner]\nmax_tasks = 3\n",
        model("llm"),
        model("models.small"),
    ));
    let both = project.with_defaults(user);
    let names: Vec<&str> = both.agents.keys().map(AgentId::as_str).collect();
    assert_eq!((names, both.disabled.len()), (vec!["a", "c"], 2));
    assert_eq!(both.agents["a"].transport.child_process().expect("a program").command, "project");
    let models: Vec<&str> = both.models.iter().map(|model| model.name.as_str()).collect();
    assert_eq!((models, both.planner.max_tasks), (vec!["llm", "small"], 3));
    assert_eq!(both.secrets.mask_text("hunter22"), "***");
}

#[test]
fn commands_that_install_have_more_time_to_start() {
    let timeout = |keys: &str| {
        let file = parse_agents("agents.toml", &format!("[agents.a]\n{keys}"), &TestEnvironment::of(&[])).unwrap();
        let agent = &file.agents[0];
        (agent.startup_timeout.as_secs(), agent.installation_timeout.as_secs())
    };
    assert_eq!(timeout("command = \"npx\"\nargs = [\"-y\", \"x\"]"), (30, 300));
    assert_eq!(timeout("command = \"npx\"\nargs = [\"-y\", \"x\"]\nstartup_timeout = \"10s\""), (10, 0));
    assert_eq!(timeout("command = \"node\"\nargs = [\"x\"]"), (30, 0));
}

#[test]
fn keys_of_other_programs_get_their_right_names() {
    let help = |text: &str| {
        let diagnostics = parse_agents("agents.toml", text, &TestEnvironment::of(&[])).expect_err(text);
        let first = &diagnostics.list()[0];
        (first.code.clone(), first.help.clone().unwrap_or_default())
    };
    for (text, code, name) in [
        ("[mcpServers.files]\ncommand = \"x\"", "agents::unknown_key", "`[agents.NAME]`"),
        ("[mcp_servers.files]\ncommand = \"x\"", "agents::unknown_key", "`kapell agents import FILE`"),
        ("[agents.a]\nurl = \"http://h/\"\ntype = \"sse\"", "agents::unknown_key", "remove it"),
        ("[agents.a]\nurl = \"http://h/\"\nheaders = {}", "agents::unknown_key", "`http_headers`"),
        ("[agents.a]\ncommand = \"x\"\ntimeout = 30", "agents::unknown_key", "`tool_timeout`"),
        ("[agents.a]\nurl = \"http://h/\"\napi_key = \"hunter22\"", "agents::unknown_key", "`bearer_token_env_var = "),
        (
            "[agents.a]\nurl = \"http://h/\"\nbearer_token = \"hunter22\"",
            "agents::unknown_key",
            "`bearer_token_env_var = ",
        ),
        (
            "[llm]\nprovider = \"openai\"\nmodel = \"m\"\napi_key = \"hunter22\"",
            "agents::unknown_key",
            "`api_key_env_var = ",
        ),
        ("{\n \"mcpServers\": {}\n}", "agents::syntax", "`kapell agents import FILE`"),
        ("[agents.a]\ncommand = \"x\"\n\"mcpServers\": {}", "agents::syntax", "`kapell agents import FILE`"),
        ("# {\n[agents.a\n", "agents::syntax", ""),
    ] {
        let (found, help) = help(text);
        assert!(found == code && help.contains(name), "{text}\n{found}: {help}");
    }
}

#[test]
fn misnamed_keys_have_a_table_and_no_key_of_it() {
    use crate::config::schema::keys::{AGENT, AGENTS_FILE, LLM, PLANNER};
    for table in [&AGENT.table, &AGENTS_FILE.table, &LLM.table, &PLANNER.table] {
        for name in table.known_names() {
            assert_eq!(correct_key(table.name, name), None, "{name}");
        }
    }
}

#[test]
fn roots_are_paths_or_file_uris() {
    let roots = |value: &str| {
        let text = format!("[agents.a]\ncommand = \"x\"\nroots = {value}");
        parse_agents("agents.toml", &text, &TestEnvironment::of(&[])).map(|file| file.agents[0].roots.clone())
    };
    let here = std::fs::canonicalize(".").unwrap();
    let expected = AgentRoot {
        uri: format!("file://{}", here.display()),
        name: here.file_name().unwrap().to_string_lossy().into_owned(),
    };
    assert_eq!(roots("[\".\"]").unwrap(), [expected]);
    assert!(roots("[\"https://example.com/\"]").unwrap_err().to_string().contains("file://"));
}

#[test]
fn reads_every_key_of_an_agents_file() {
    let text = r#"
        [llm]
        base_url = "${BASE:-http://127.0.0.1:11434/v1}"
        model = "qwen3:8b"
        api_key_env_var = "KEY"
        max_tokens_field = "max_completion_tokens"
        timeout = "30s"
        deadline = "60s"
        http_headers = { x-org = "${ORG}" }
        env_http_headers = { x-key = "KEY" }
        query = { api-version = "${ORG}" }
        max_output_tokens = 100
        temperature = false
        seed = 7
        reasoning_effort = "low"
        extra_body = { user = "${ORG}" }
        stop = false
        structured_output = "json_object"
        tool_choice = "any"
        system_role = "developer"
        stream_usage = false
        echo_reasoning = true
        tools = true
        images = true
        audio = true
        prices = { input = 2, output = 10.5 }
        scores = { cost = 1, intelligence = 0.25 }

        [plans]
        env = ["REGION"]
        [planner]
        model = "llm"

        [agents.travel]
        command = "${KAPELL}"
        args = ["demo-agent", "travel", "costs $5, $$HOME is ${HOME}"]
        env = { TOKEN = "${KEY}" }
        env_vars = ["HOME", "UNSET"]
        cwd = "/tmp"
        required = true
        max_processes = 3
        max_message_bytes = 1048576
        log_level = "debug"
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
        ca_file = "ca.pem"
        client_cert_file = "client.pem"
        proxy = "http://me:hunter2@proxy:8080"
        roots = ["/", "file:///a%20b/c"]
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
    let environment = TestEnvironment::of(&[("HOME", "/root"), ("KEY", "hunter2"), ("ORG", "acme")]);
    let mut file = parse_agents("agents.toml", text, &environment).unwrap_or_else(|errors| panic!("{errors}"));
    for spec in file.agents.values_mut() {
        assert_eq!(std::mem::take(&mut spec.policy.fingerprint).len(), 16);
    }
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
        network: NetworkSettings::default(),
        roots: Vec::new(),
        protocol: Protocol::Auto,
        startup_timeout: seconds(30),
        installation_timeout: Duration::ZERO,
        max_processes: 3,
        max_message_bytes: 1_048_576,
        log_level: LogLevel::Debug,
        sampling: SamplingPolicy { consent: Consent::Ask, max_tokens: Some(5_000), max_requests: Some(10) },
        policy: AgentPolicy {
            required: true,
            max_concurrency: 8,
            tool_timeout: HumanDuration(seconds(300)),
            effect: None,
            fingerprint: String::new(),
        },
        check_arguments: SchemaChecks::default(),
        check_results: SchemaChecks::default(),
        enabled_tools: None,
        disabled_tools: vec![],
        capabilities: [("booking".to_owned(), None)].into(),
        unset_variables: Vec::new(),
    };
    let research = AgentSpec {
        id: "research".into(),
        transport: Transport::Http {
            url: "http://127.0.0.1:40123/mcp".to_owned(),
            headers: vec![("X-A".to_owned(), "1".to_owned()), ("X-B".to_owned(), "hunter2".to_owned())],
            bearer_token: Some("hunter2".to_owned()),
            oauth: OAuthSpec::default(),
            server: Some(ChildProcess {
                command: "/opt/kapell".to_owned(),
                args: ["demo-agent", "research", "--http", "40123"].map(str::to_owned).to_vec(),
                env: [].into(),
                cwd: None,
            }),
        },
        network: NetworkSettings {
            ca_file: Some(beside_the_file("ca.pem")),
            client_cert_file: Some(beside_the_file("client.pem")),
            proxy: Some("http://me:hunter2@proxy:8080".to_owned()),
        },
        roots: vec![
            AgentRoot { uri: "file:///".to_owned(), name: "/".to_owned() },
            AgentRoot { uri: "file:///a%20b/c".to_owned(), name: "c".to_owned() },
        ],
        protocol: Protocol::Legacy,
        startup_timeout: seconds(10),
        installation_timeout: Duration::ZERO,
        max_processes: 1,
        max_message_bytes: 64 * 1024 * 1024,
        log_level: LogLevel::Info,
        sampling: SamplingPolicy { consent: Consent::Deny, ..SamplingPolicy::default() },
        policy: AgentPolicy {
            required: false,
            max_concurrency: 4,
            tool_timeout: HumanDuration(seconds(60)),
            effect: Some(Effect::ReadOnly),
            fingerprint: String::new(),
        },
        check_arguments: SchemaChecks::default(),
        check_results: SchemaChecks::default(),
        enabled_tools: Some(vec!["search".to_owned()]),
        disabled_tools: vec!["delete".to_owned()],
        capabilities: [("web-search".to_owned(), Some("search".to_owned()))].into(),
        unset_variables: Vec::new(),
    };
    let llm = LlmSpec {
        name: "llm".to_owned(),
        base_url: "http://127.0.0.1:11434/v1".to_owned(),
        model: "qwen3:8b".to_owned(),
        api_key: Some("hunter2".to_owned()),
        headers: vec![("x-org".to_owned(), "acme".to_owned()), ("x-key".to_owned(), "hunter2".to_owned())],
        query: vec![("api-version".to_owned(), "acme".to_owned())],
        timeout: seconds(30),
        deadline: Some(seconds(60)),
        dialect: Dialect {
            max_tokens_field: MaxTokensField::MaxCompletionTokens,
            max_output_tokens: Some(100),
            temperature: false,
            stop: false,
            structured_output: StructuredOutput::JsonObject,
            schema_in_prompt: true,
            schema_bounds: false,
            tool_choice: ForcedToolChoice::Any,
            system_role: SystemRole::Developer,
            stream_usage: false,
            echo_reasoning: true,
            tools: true,
            images: true,
            audio: true,
        },
        settings: RequestSettings {
            temperature: None,
            seed: Some(7),
            reasoning_effort: Some("low".to_owned()),
            extra_body: [("user".to_owned(), "acme".into())].into_iter().collect(),
        },
        scores: Scores { cost: 1.0, speed: 0.5, intelligence: 0.25 },
        prices: Some(Prices { input: 2.0, output: 10.5 }),
        unset_variables: Vec::new(),
    };
    assert_eq!(
        file,
        AgentsFile {
            agents: [(travel.id.clone(), travel), (research.id.clone(), research)].into(),
            disabled: vec!["off".into()],
            secrets: Secrets::new(["hunter2".to_owned()]),
            models: vec![llm],
            planner: PlannerSettings { model: Some("llm".to_owned()), ..PlannerSettings::default() },
            plan_env: [("REGION".to_owned(), None)].into(),
            host: HostSettings::default(),
        }
    );
    assert!(!format!("{file:?}").contains("hunter2"), "{file:?}");
}

#[test]
fn fingerprint_excludes_secrets() {
    let environment = TestEnvironment::of(&[("A", "1"), ("B", "2")]);
    let of = |section: &str| {
        let file = parse_agents("agents.toml", &format!("[agents.a]\n{section}"), &environment);
        file.unwrap_or_else(|errors| panic!("{errors}")).agents["a"].policy.fingerprint.clone()
    };
    let first = of("command = \"x\"\nargs = [\"1\"]\nenv = { KEY = \"${A}\" }");
    assert_eq!(first, of("args = [\"1\"] # the same\ncommand = \"x\"\nenv = { KEY = \"${B}\" }"));
    assert_ne!(first, of("command = \"x\"\nargs = [\"2\"]\nenv = { KEY = \"${A}\" }"));
}

#[test]
fn sampling_is_unlimited_by_default() {
    let policy = |line: &str| {
        let text = format!("[agents.a]\ncommand = \"x\"\n{line}");
        let file =
            parse_agents("agents.toml", &text, &TestEnvironment::of(&[])).unwrap_or_else(|errors| panic!("{errors}"));
        (file.agents["a"].sampling, file.agents["a"].max_processes)
    };
    let allow = SamplingPolicy { consent: Consent::Allow, max_tokens: None, max_requests: None };
    assert_eq!(policy(""), (allow, 1));
    assert_eq!(policy("sampling = \"allow\""), (allow, 1));
    assert_eq!(policy("sampling = { max_requests = 2 }"), (SamplingPolicy { max_requests: Some(2), ..allow }, 1));
}

#[test]
fn oauth_settings_are_read() {
    let oauth = |lines: &str| {
        let text = format!("[agents.a]\nurl = \"https://a.test/mcp\"\n{lines}");
        let environment = TestEnvironment::of(&[("CLIENT_SECRET", "hunter2")]);
        let file = parse_agents("agents.toml", &text, &environment).unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(file.secrets, Secrets::new(lines.contains("CLIENT_SECRET").then(|| "hunter2".to_owned())));
        match &file.agents["a"].transport {
            Transport::Http { oauth, .. } => oauth.clone(),
            Transport::Stdio(_) => panic!("the agent has a URL"),
        }
    };
    assert_eq!(oauth(""), OAuthSpec::default());
    let pre_registered = OAuthSpec {
        client_id: Some("kapell-1".to_owned()),
        client_secret: Some("hunter2".to_owned()),
        scopes: vec!["files.read".to_owned()],
        resource: Some("https://a.test/".to_owned()),
        ..OAuthSpec::default()
    };
    let keys = r#"
        [agents.a.oauth]
        client_id = "kapell-1"
        client_secret_env_var = "CLIENT_SECRET"
        scopes = ["files.read"]
        resource = "https://a.test/"
    "#;
    assert_eq!(oauth(keys), pre_registered);
    let with_key = OAuthSpec {
        grant: OAuthGrant::ClientCredentials,
        client_id: Some("service".to_owned()),
        private_key_file: Some(beside_the_file("key.pem")),
        ..OAuthSpec::default()
    };
    let keys = r#"oauth = { grant = "client_credentials", client_id = "service", private_key_file = "key.pem" }"#;
    assert_eq!(oauth(keys), with_key);
    assert!(!format!("{pre_registered:?}").contains("hunter2"));
}

#[test]
fn oauth_settings_that_do_not_fit_together_are_reported() {
    let url = "url = \"https://a.test/mcp\"\n";
    for (section, message) in [
        ("command = \"x\"\noauth = { client_id = \"c\" }".to_owned(), "`oauth` has no effect without `url`"),
        (
            format!("{url}bearer_token_env_var = \"KEY\"\noauth = {{ client_id = \"c\" }}"),
            "`oauth` has no effect with `bearer_token_env_var`",
        ),
        (
            format!("{url}oauth = {{ client_secret_env_var = \"KEY\" }}"),
            "`client_secret_env_var` has no effect without `client_id`",
        ),
        (
            format!("{url}oauth = {{ private_key_file = \"k.pem\" }}"),
            "`private_key_file` has no effect without `grant = \"client_credentials\"`",
        ),
        (
            format!("{url}oauth = {{ grant = \"client_credentials\", client_secret_env_var = \"KEY\" }}"),
            "`grant = \"client_credentials\"` needs `client_id`",
        ),
        (
            format!("{url}oauth = {{ grant = \"client_credentials\", client_id = \"c\" }}"),
            "needs `client_secret_env_var` or `private_key_file`",
        ),
        (
            format!(
                "{url}oauth = {{ grant = \"client_credentials\", client_id = \"c\", client_secret_env_var = \"KEY\", \
                 private_key_file = \"k.pem\" }}"
            ),
            "`private_key_file` and `client_secret_env_var` are both set",
        ),
        (format!("{url}oauth = {{ resource = \"https://b.test/mcp\" }}"), "`resource` has another origin than `url`"),
        (format!("{url}oauth = {{ grant = \"password\" }}"), "`grant` must be one of `authorization_code`"),
    ] {
        let text = format!("[agents.a]\n{section}");
        let environment = TestEnvironment::of(&[("KEY", "hunter2")]);
        let errors = parse_agents("agents.toml", &text, &environment).expect_err(&text);
        assert!(errors.to_string().contains(message), "{errors}");
    }
}

#[test]
fn reports_all_errors_of_an_agents_file() {
    let environment = TestEnvironment::of(&[("SECRET", "hunter2\n"), ("TIME", "hunter2")]);
    let errors =
        parse_agents("agents.toml", include_str!("broken.toml"), &environment).expect_err("the file is broken");
    let report = rendered(&errors);
    assert!(!report.contains("hunter2"), "{report}");
    insta::assert_snapshot!(report);
}

#[test]
fn diagnostics_never_show_secrets() {
    for text in [
        "[llm]\nbase_url = \"http://x\"\nmodel = \"m\"\napi_key = \"hunter2\"",
        "[llm]\nbase_url = \"ftp://u:hunter2@x\"\nmodel = \"m\"",
        "[llm]\nbase_url = \"http://x\"\nmodel = \"m\"\napi_key_env_var = \"sk-hunter2\"",
        "[models.a]\nbase_url = \"http://x?key=hunter2\"\nmodel = 5",
        "[models.a]\nprovider = \"ollama\"\nquery = { key = \"hunter2\" }",
        "[models.a]\nprovider = \"ollama\"\napi_key = \"hunter2\"",
        "[models.a]\nprovider = \"ollama\"\nenv_http_headers = { x = \"sk-hunter2\" }",
        "models = [\"hunter2\"]",
        "[agents.a]\nhttp_headers = { A = \"hunter2\" }\ncomand = \"x\"",
        "[agents.a]\nhttp_headers = { A = \"hunter2\\n\" }\nurl = \"http://x\"",
        "[agents.a]\nenv = { A = 'hunter2' }\nrequired = 1",
        "[agents.a]\ncommand = \"x\"\nenv = \"A=hunter2\"",
        "[agents.a]\nurl = \"http://x\"\nenv_http_headers = { A = \"Bearer hunter2\" }",
        "[agents.a]\nurl = \"http://x\"\nbearer_token = \"ähunter2\"",
        "[agents.a]\nurl = \"http://x\"\noauth = { client_id = \"c\", client_secret_env_var = \"sk-hunter2\" }",
        "[agents.a]\nurl = \"http://x\"\noauth = { client_secret = \"hunter2\" }",
        "[agents.a]\nenv = { A = \"hunter2 }\nb = = 'hunter2'",
        "agents = [\"hunter2\"]\nx = 'hunter2'",
    ] {
        let errors = parse_agents("agents.toml", text, &TestEnvironment::of(&[])).expect_err(text);
        let shown = format!("{}{errors}{}{errors:?}", rendered(&errors), serde_json::json!(errors));
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

#[test]
fn reports_all_syntax_errors() {
    let errors = parse_agents("agents.toml", "x = \ny = 1 2\nz = '\n", &TestEnvironment::of(&[])).expect_err("no TOML");
    assert!(
        errors.list().iter().all(|diagnostic| diagnostic.code == "agents::syntax" && diagnostic.position.is_some()),
        "{errors}"
    );
    assert!(errors.errors() > 1, "{errors}");
}

#[test]
fn missing_file_is_reported_with_help() {
    let errors =
        load_agents(&PathBuf::from("/nonexistent/agents.toml"), &TestEnvironment::of(&[])).expect_err("no file");
    let [diagnostic] = errors.list() else { panic!("{errors}") };
    assert_eq!(diagnostic.code, "file::unreadable");
    assert!(diagnostic.help.as_deref().is_some_and(|help| help.contains("--agents")), "{errors}");
}

#[test]
fn empty_file_has_no_agents() {
    assert_eq!(
        parse_agents("agents.toml", "", &TestEnvironment::of(&[])).map_err(|errors| errors.to_string()),
        Ok(AgentsFile::default())
    );
}
