//! Puts a host together from its parts, and drives one run with it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use super::content::{CallCache, ContentStore};
use super::early_calls::{EarlyAgents, KeptCalls};
use super::host_agent::{HostTools, RunAgents};
use super::llm_replanner::LlmReplanner;
use super::orphans::reap_orphans;
use super::shutdown::{RunStateAtExit, listen_for_signals};
use super::{
    HostError, HostReceiver, Replanner, ResumableRun, RunClock, RunHandle, RunRequest, RuntimeError, RuntimeHost,
    Services, dispatcher, forward_requests, read_inputs,
};
use crate::config::{AgentCatalog, AgentsFile};
use crate::engine::{self, NewRun, Run};
use crate::journal::{self, Durability, JournalError, MemoryJournal, Store};
use crate::llm::{Llm, Models};
use crate::mcp::process::log;
use crate::mcp::{Agents, EarlyPool, LoginPolicy, Options, Pool, SamplingSupport, UnreachablePolicy};
use crate::model::{AgentId, AgentSpec, Plan, RunId, Timestamp, TraceContext};
use crate::system::{clock, environment, process};
use crate::ui::answers::policy::NoInput;
use crate::ui::human::Human;
use crate::ui::reporters::{Reporter, Reporters};
use crate::view::RunResult;

/// A callback before the process exits because of a signal.
type BeforeExit = Box<dyn FnOnce(RunStateAtExit) + Send>;

/// A host that drives one run: it connects to the agents, executes the tasks, and records every event in the journal.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use std::{path::Path, sync::Arc};
///
/// use kapell::{Host, config, journal::MemoryJournal};
///
/// let agents = config::load_agents(Path::new("agents.toml"), &config::ProcessEnvironment)?;
/// let plan = config::load_plan("trip.yaml", &std::fs::read_to_string("trip.yaml")?, &agents, None)?.plan;
/// let inputs = config::resolve_inputs(&plan, &["city=Lisbon".to_owned()], None)?;
///
/// let host = Host::builder().agents(agents).journal(Arc::new(MemoryJournal::default())).build()?;
/// let result = host.run_plan(plan, inputs).await?;
/// println!("{}", kapell::view::result_text(&result));
/// # Ok(())
/// # }
/// ```
pub struct Host<'r> {
    run: RunId,
    agents: AgentsFile,
    catalog: AgentCatalog,
    connections: Option<EarlyPool>,
    early_calls: KeptCalls,
    llm: Option<Arc<dyn Llm>>,
    store: Arc<dyn Store>,
    durability: Durability,
    human: Arc<dyn Human>,
    reporters: Vec<&'r mut dyn Reporter>,
    options: Options,
    before_exit: Option<BeforeExit>,
    handle: Option<RunHandle>,
    content: Option<PathBuf>,
    content_copies: Option<PathBuf>,
    cache: Option<PathBuf>,
}

/// The parts of a [`Host`]. Only the agents have no default.
#[derive(Default)]
pub struct HostBuilder<'r> {
    run: Option<RunId>,
    agents: AgentsFile,
    catalog: AgentCatalog,
    connections: Option<EarlyPool>,
    early_calls: KeptCalls,
    llm: Option<Arc<dyn Llm>>,
    store: Option<Arc<dyn Store>>,
    durability: Durability,
    human: Option<Arc<dyn Human>>,
    reporters: Vec<&'r mut dyn Reporter>,
    handle: Option<RunHandle>,
    state_dir: Option<PathBuf>,
    before_exit: Option<BeforeExit>,
    content: Option<PathBuf>,
    content_copies: Option<PathBuf>,
    cache: Option<PathBuf>,
}

impl<'r> Host<'r> {
    /// Returns a builder without agents, with an in-memory journal, and without a person to ask.
    pub fn builder() -> HostBuilder<'r> {
        HostBuilder::default()
    }

    /// Returns the ID of the run, unless the host resumes one.
    pub fn run_id(&self) -> &RunId {
        &self.run
    }

    /// Runs `plan` with `inputs`, a JSON object with defaults filled in, and returns the result.
    ///
    /// # Errors
    /// Returns an error if the run cannot start or its process has to stop. A failed task is part of the result instead.
    pub async fn run_plan(
        self,
        plan: impl Into<Arc<Plan>>,
        inputs: impl Into<Arc<Value>>,
    ) -> Result<RunResult, HostError> {
        let new_run = NewRun {
            plan: plan.into(),
            inputs: inputs.into(),
            seed: jitter_seed(&self.run),
            planning: None,
            source: None,
            id: None,
        };
        self.run(new_run).await
    }

    /// Executes a new run, a rerun, or a run of an earlier process, and returns its result.
    ///
    /// # Errors
    /// Returns an error if the run cannot start or its process has to stop. A failed task is part of the result instead.
    pub async fn run(self, request: impl Into<RunRequest>) -> Result<RunResult, HostError> {
        Box::pin(self.drive(request.into())).await
    }

    async fn drive(mut self, mut request: RunRequest) -> Result<RunResult, HostError> {
        let run = request.resumable().map_or(self.run, |resumable| resumable.id.clone());
        request.set_id(&run);
        let secrets = request.secrets();
        if !secrets.is_empty() {
            self.agents.secrets.add(secrets);
        }
        let content = self.content.map(|root| {
            let store = ContentStore::new(&root, &run, self.content_copies);
            Arc::new(store.with_secrets(self.agents.secrets.clone()))
        });
        let trace = self.options.trace.get_or_insert_with(|| TraceContext::of_run(&run)).clone();
        let journal = self.store.open_writer(self.durability)?;
        // Held to the end, after the run's last event is durable.
        let _lease = match &request {
            // It was acquired before the run was read.
            RunRequest::Resume(_) => None,
            RunRequest::New(_) | RunRequest::Rerun(_) => Some(self.store.acquire_lease(&run)?),
        };
        let resumable = request.resumable();
        if resumable.is_some() {
            content.iter().for_each(|content| content.remove_unfinished_files());
        }
        let clock =
            RunClock::start_no_earlier_than(resumable.map_or_else(Timestamp::default, ResumableRun::last_event_at));
        // Every request of an agent leaves an event, so no earlier process can have used this number.
        let first_request = resumable.map_or(0, ResumableRun::next_seq) + 1;
        let (host, receiver) = RuntimeHost::new(run.clone(), Arc::clone(&journal), first_request);
        let plan = request.plan();
        // A replan may use any agent.
        let may_use = |agent: &&AgentSpec| plan.replan.is_some() || plan.agents.contains_key(&agent.id);
        let used: Vec<AgentSpec> = self.agents.agents.values().filter(may_use).cloned().collect();
        let replanner = plan.replan.map(|_| -> Arc<dyn Replanner> {
            let (agents, catalog, options) = (self.agents.clone(), self.catalog, self.options.clone());
            Arc::new(LlmReplanner { agents, catalog, options })
        });
        let (sessions, sampled) = resumable
            .map(|resumable| (resumable.sessions.clone(), engine::sampling_usage(&resumable.records)))
            .unwrap_or_default();
        let sampled = sampled.into_iter().map(|(agent, usage)| (agent, usage.requests, usage.tokens));
        let pool = Pool::new(used, self.options, Arc::clone(&host) as Arc<_>);
        let pool = match self.connections {
            Some(connections) => Box::pin(pool.adopt(connections)).await,
            None => pool,
        };
        let pool = pool.with_sessions(sessions).with_sampling_usage(sampled);
        let directory = request.directory();
        let fingerprints = plan.agents.iter().map(|(id, policy)| (id.clone(), policy.fingerprint.clone())).collect();
        let secrets = self.agents.secrets.clone();
        let cache = self.cache.map(|cache| Arc::new(CallCache::new(cache, fingerprints, &directory, secrets)));
        let tools = HostTools::new(self.agents.host, directory.clone(), content.clone(), Arc::clone(&host) as Arc<_>);
        let agents: Arc<dyn Agents> = Arc::new(RunAgents::new(Arc::new(pool), tools));
        let agents = match self.early_calls.is_empty() {
            true => agents,
            false => Arc::new(EarlyAgents::new(agents, Arc::clone(&host) as Arc<_>, self.early_calls)),
        };
        let services = Services {
            journal,
            agents,
            llm: self.llm,
            replanner,
            human: self.human,
            secrets: self.agents.secrets,
            clock,
            trace,
            content: content.clone(),
            cache,
            directory,
        };
        let mut background = Background::default();
        let mut signals = None;
        if let Some(before_exit) = self.before_exit {
            signals = Some(listen_for_signals(&host, before_exit).map_err(HostError::Signals)?);
            process::adopt_orphans();
            background.spawn(async {
                if let Err(error) = reap_orphans().await {
                    tracing::warn!(%error, "orphaned processes of agents are not waited for");
                }
            });
        }
        let mut queue = self.store.control_queue(&run);
        // No other process knows of a new run yet, so its control queue is empty.
        if let RunRequest::Resume(resumable) = &mut request {
            resumable.resumption.inputs = read_inputs(&mut *queue, None)?;
        }
        background.spawn(forward_requests(queue, Arc::clone(&host)));
        if let Some(handle) = self.handle {
            background.spawn(handle.forward(Arc::clone(&host)));
        }
        let mut reporters = Reporters::new(&run, self.reporters);
        let stopped = async {
            match &signals {
                Some(signals) => signals.stopped().await,
                None => std::future::pending().await,
            }
        };
        let driven = tokio::select! {
            biased;
            driven = Box::pin(drive(&run, request, services, (host, receiver), &mut reporters)) => driven,
            () = stopped => return Err(HostError::Stopped { run }),
        };
        drop(background);
        match driven {
            Ok(()) => {
                let mut result = reporters.into_result();
                content.iter().for_each(|content| content.complete_result(&mut result));
                Ok(result)
            }
            Err(source) => Err(HostError::Unfinished { run, source }),
        }
    }
}

async fn drive(
    run: &RunId,
    request: RunRequest,
    services: Services,
    host: (Arc<RuntimeHost>, HostReceiver),
    reporters: &mut Reporters<'_>,
) -> Result<(), RuntimeError> {
    let now = services.clock.now();
    let (begun, _lease) = match request {
        RunRequest::New(new_run) => (Run::start(new_run, now)?, None),
        RunRequest::Rerun(mut rerun) => {
            let content = services.content.as_deref();
            rerun.change_outputs(|output| ContentStore::adopt_saved_output(content, output));
            let earlier = rerun.earlier_id.clone();
            let (run, step) = Run::rerun(rerun, now)?;
            services.content.iter().for_each(|content| content.keep_from(&earlier, &step.records));
            ((run, step), None)
        }
        RunRequest::Resume(ResumableRun { lease, records, resumption, .. }) => {
            reporters.catch_up(&records);
            (Run::resume(resumption, now), Some(lease))
        }
    };
    dispatcher::run(run, begun, services, host, reporters).await
}

impl<'r> HostBuilder<'r> {
    /// Sets the agents, their secrets, and the language models, as an agents file has them.
    #[must_use]
    pub fn agents(mut self, agents: AgentsFile) -> Self {
        self.agents = agents;
        self
    }

    /// Sets what the agents offered when the plan was made. A replan starts from it.
    #[must_use]
    pub fn catalog(mut self, catalog: AgentCatalog) -> Self {
        self.catalog = catalog;
        self
    }

    /// Sets connections to agents from before the run. The run uses them instead of new ones.
    #[must_use]
    pub fn connections(mut self, connections: Option<EarlyPool>) -> Self {
        self.connections = connections;
        self
    }

    /// Sets the calls that were made on these connections before the run. Tasks of its plan use their results.
    #[must_use]
    pub fn early_calls(mut self, calls: KeptCalls) -> Self {
        self.early_calls = calls;
        self
    }

    /// Sets the language model, instead of those of the agents file.
    #[must_use]
    pub fn llm(mut self, llm: Arc<dyn Llm>) -> Self {
        self.llm = Some(llm);
        self
    }

    /// Sets the journal. The default is in memory.
    #[must_use]
    pub fn journal(mut self, store: Arc<dyn Store>) -> Self {
        self.store = Some(store);
        self
    }

    /// Sets what a power failure may lose of the journal.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Sets who answers questions. By default, agents' questions are declined, and approvals pause the run.
    #[must_use]
    pub fn human(mut self, human: Arc<dyn Human>) -> Self {
        self.human = Some(human);
        self
    }

    /// Adds a reporter, which receives all events of the run. Reporters are called in the order of their addition.
    #[must_use]
    pub fn reporter(mut self, reporter: &'r mut dyn Reporter) -> Self {
        self.reporters.push(reporter);
        self
    }

    /// Lets `handle` control the run.
    #[must_use]
    pub fn handle(mut self, handle: &RunHandle) -> Self {
        self.handle = Some(handle.clone());
        self
    }

    /// Sets the ID of a new run or a rerun. The default is a new one.
    #[must_use]
    pub fn run_id(mut self, run: RunId) -> Self {
        self.run = Some(run);
        self
    }

    /// Sets the directory for the logs of agents. The default is the platform's state directory.
    #[must_use]
    pub fn state_dir(mut self, directory: PathBuf) -> Self {
        self.state_dir = Some(directory);
        self
    }

    /// Sets the directory in which binary contents and large texts of results are saved, in a folder for each run.
    /// Without it, they stay in the events.
    #[must_use]
    pub fn content_directory(mut self, root: PathBuf) -> Self {
        self.content = Some(root);
        self
    }

    /// Sets a directory that also gets a copy of each file that this host saves. It is created on demand.
    #[must_use]
    pub fn copy_content_to(mut self, directory: PathBuf) -> Self {
        self.content_copies = Some(directory);
        self
    }

    /// Sets the directory in which results of calls are kept for later calls, for tasks with `cache`. Without it, every
    /// call is made.
    #[must_use]
    pub fn cache_directory(mut self, directory: PathBuf) -> Self {
        self.cache = Some(directory);
        self
    }

    /// Lets the host own the process: it handles SIGINT, SIGTERM, and SIGHUP, and waits for orphaned processes of
    /// agents. The first signal interrupts the run; the second one exits the process after `before_exit`. In a session
    /// ([`SessionSignals`](super::shutdown::SessionSignals)), the second one stops only the run.
    #[must_use]
    pub fn own_process(mut self, before_exit: impl FnOnce(RunStateAtExit) + Send + 'static) -> Self {
        self.before_exit = Some(Box::new(before_exit));
        self
    }

    /// Returns the host. Connects to nothing yet.
    ///
    /// # Errors
    /// Returns an error if a language model can never be asked, or the platform has no state directory and none is set.
    pub fn build(self) -> Result<Host<'r>, HostError> {
        let options = connect_options(&self.agents, self.state_dir.as_deref())?;
        let llm = match self.llm {
            Some(llm) => Some(llm),
            None => Models::new(self.agents.models.iter().cloned())
                .map_err(HostError::Model)?
                .map(|models| Arc::new(models) as Arc<dyn Llm>),
        };
        Ok(Host {
            run: self.run.unwrap_or_else(new_run_id),
            agents: self.agents,
            catalog: self.catalog,
            connections: self.connections,
            early_calls: self.early_calls,
            llm,
            store: self.store.unwrap_or_else(|| Arc::new(MemoryJournal::default())),
            durability: self.durability,
            human: self.human.unwrap_or_else(|| Arc::new(NoInput)),
            reporters: self.reporters,
            options,
            before_exit: self.before_exit,
            handle: self.handle,
            content: self.content,
            content_copies: self.content_copies,
            cache: self.cache,
        })
    }
}

/// Returns a new run ID, which contains the current time.
pub fn new_run_id() -> RunId {
    RunId::from(clock::new_id().to_string())
}

/// Returns the seed of the run's jitter. It only has to differ between runs, as IDs do.
pub fn jitter_seed(run: &RunId) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    run.hash(&mut hasher);
    hasher.finish()
}

/// Returns the options for connecting to agents. Listing tools announces the same models as a run, since some agents
/// offer a tool only if a model is available. Logs go to `state_dir`, or to the platform's state directory.
///
/// # Errors
/// Returns an error if the platform has no state directory and none is given.
pub fn connect_options(agents: &AgentsFile, state_dir: Option<&Path>) -> Result<Options, JournalError> {
    let directory = match state_dir {
        Some(directory) => directory.to_owned(),
        None => journal::state_directory()?,
    };
    // A model without its key would refuse each request, and an agent may do without one.
    let usable: Vec<_> = agents.models.iter().filter(|model| model.unset_variables.is_empty()).collect();
    let sampling = match usable.as_slice() {
        [] => SamplingSupport::Off,
        models if models.iter().any(|model| model.dialect.tools) => SamplingSupport::WithTools,
        _ => SamplingSupport::Plain,
    };
    Ok(Options {
        log_dir: directory.join(LOG_DIRECTORY),
        server_cache: Some(directory.join("servers.json")),
        login_dir: Some(directory.join("logins")),
        offers_dir: Some(directory.join("offers")),
        login: LoginPolicy::default(),
        secrets: agents.secrets.clone(),
        unreachable: UnreachablePolicy::default(),
        sampling,
        trace: trace_of_caller(),
    })
}

/// The directory of the logs of agents, in the state directory.
const LOG_DIRECTORY: &str = "agents";

/// Returns what the processes of an agent wrote to standard error since a time, oldest first, as far as the logs have it.
///
/// # Errors
/// Returns an error if the platform has no state directory.
pub fn agent_stderr(agent: &AgentId, since: Timestamp) -> Result<Vec<(Timestamp, String)>, JournalError> {
    Ok(log::read_lines(&journal::state_directory()?.join(LOG_DIRECTORY), agent, since))
}

/// Returns the trace of a run: that of the calling program, or else a new one.
#[cfg(feature = "otel")]
pub fn trace_of_run(run: &RunId) -> TraceContext {
    trace_of_caller().unwrap_or_else(|| TraceContext::of_run(run))
}

/// Returns the trace of the calling program from the environment, as OpenTelemetry specifies it.
fn trace_of_caller() -> Option<TraceContext> {
    let text = |name| environment::variable(name)?.into_string().ok();
    TraceContext::parse(&text("TRACEPARENT")?, text("TRACESTATE"))
}

/// Tasks that end with the run.
#[derive(Default)]
struct Background(Vec<tokio::task::JoinHandle<()>>);

impl Background {
    fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.push(tokio::spawn(task));
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.0.iter().for_each(tokio::task::JoinHandle::abort);
    }
}
