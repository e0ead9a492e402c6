//! What signaling servers cost, side by side: memory of an idle connection, CPU of setting one up, CPU of a relayed
//! message, and how long messages take when the server has more than it can do.
//!
//! Each server is a process on core 0, the clients are this process on core 1. Servers take turns within each round, so
//! that a machine that is slow for a while is slow for all of them; the result is the median of the rounds' ratios.

mod churn;
mod crowd;
mod engine;
mod nodes;
mod process;
mod protocol;
mod report;
mod servers;
mod wire;

use std::{error::Error, io, path::Path, thread::sleep, time::Duration};

use crowd::Crowd;
use process::Process;
use protocol::Protocol;
use report::Costs;
use servers::Server;

/// The core of the servers; `run` puts this process on the other one.
const CORE: usize = 0;

/// Clients that a server has served before it is measured.
const WARM_UP: usize = 200;

/// Clients that come and go with `--churn`.
const VISITS: usize = 1_000_000;

const SECOND: Duration = Duration::from_secs(1);

/// How much of it: `./run --quick` is for trying it out, and its figures are for nobody.
#[derive(Debug, Clone, Copy)]
struct Plan {
    rounds: usize,
    idle: usize,
    talking: usize,
    time: Duration,
}

const WHOLE: Plan = Plan {
    rounds: 5,
    idle: 10_000,
    talking: 1_000,
    time: Duration::from_secs(2),
};
const QUICK: Plan = Plan {
    rounds: 1,
    idle: 1_000,
    talking: 200,
    time: Duration::from_secs(1),
};

fn main() -> Result<(), Box<dyn Error>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"));
    let plan = match std::env::args().nth(1).as_deref() {
        None => WHOLE,
        Some("--quick") => QUICK,
        Some("--churn") => return Ok(come_and_go(directory)?),
        Some("--nodes") => return Ok(across_nodes(directory)?),
        Some(other) => {
            return Err(format!("{other}? there are --quick, --churn and --nodes").into());
        }
    };
    let mut servers = Vec::new();
    for server in servers::all(directory) {
        match &server.missing {
            Some(why) => println!("{}: skipped, {why}", server.name),
            None => servers.push((server, Vec::new())),
        }
    }
    for round in 1..=plan.rounds {
        for (server, costs) in &mut servers {
            let cost = measure(server, plan, directory)
                .map_err(|error| format!("{}: {error}", server.name))?;
            println!("round {round}, {}: {cost}", server.name);
            costs.push(cost);
        }
    }
    let costs: Vec<(&str, Vec<Costs>)> = servers
        .into_iter()
        .map(|(server, costs)| (server.name, costs))
        .collect();
    println!("\n{}", report::tables(&costs));
    Ok(())
}

/// Whether our server's memory returns to its base after very many clients.
fn come_and_go(directory: &Path) -> io::Result<()> {
    let server = servers::ours(directory);
    let process = Process::start(CORE, &server.program, directory)?;
    churn::churn(&process, VISITS / 20)?;
    let before = process.memory()?;
    churn::churn(&process, VISITS)?;
    let after = process.memory()?;
    println!(
        "{VISITS} joins and leaves: {:.0} KiB before, {:.0} KiB after",
        before / 1_024.0,
        after / 1_024.0
    );
    Ok(())
}

/// What a message pays for going through NATS to another server.
fn across_nodes(directory: &Path) -> io::Result<()> {
    println!("{}", nodes::measure(CORE, directory)?);
    Ok(())
}

fn measure(server: &Server, plan: Plan, directory: &Path) -> io::Result<Costs> {
    let start = || Process::start(CORE, &server.program, directory);
    let mut costs = Costs::default();
    idle(server.protocol, &start()?, plan, &mut costs)?;
    talking(server.protocol, &start()?, plan, &mut costs)?;
    Ok(costs)
}

/// Many connections that do nothing, and then all of them talking at once.
fn idle(protocol: Protocol, process: &Process, plan: Plan, costs: &mut Costs) -> io::Result<()> {
    let mut crowd = Crowd::new(protocol, process.address())?;
    crowd.grow(WARM_UP)?;
    crowd.start(if protocol == Protocol::Broadcast {
        1
    } else {
        WARM_UP / 2
    })?;
    crowd.talk(SECOND)?;
    drop(crowd);
    // The server learns of their end.
    sleep(SECOND);
    let (memory, cpu) = (process.memory()?, process.cpu()?);
    let mut crowd = Crowd::new(protocol, process.address())?;
    crowd.grow(plan.idle)?;
    costs.setup = (process.cpu()? - cpu) / plan.idle as f64;
    costs.memory = (process.memory()? - memory) / plan.idle as f64;
    if protocol != Protocol::Broadcast {
        crowd.start(plan.idle / 2)?;
        crowd.talk(SECOND)?;
        let p99 = crowd.talk(plan.time)?.p99();
        costs.p99 = p99.map(|p99| p99.as_secs_f64());
    }
    Ok(())
}

/// Connections that send as fast as the server relays, one message of each on its way.
fn talking(protocol: Protocol, process: &Process, plan: Plan, costs: &mut Costs) -> io::Result<()> {
    let mut crowd = Crowd::new(protocol, process.address())?;
    crowd.grow(plan.talking)?;
    // Everybody gets everything: more than a few at once only makes the queue longer.
    crowd.start(if protocol == Protocol::Broadcast {
        2
    } else {
        plan.talking / 2
    })?;
    crowd.talk(SECOND)?;
    let cpu = process.cpu()?;
    let relayed = crowd.talk(plan.time)?;
    costs.message = (process.cpu()? - cpu) / relayed.messages as f64;
    costs.per_second = relayed.messages as f64 / plan.time.as_secs_f64();
    Ok(())
}
