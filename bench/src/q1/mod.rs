//! Q1: how much of an allowance becomes finished work. An upstream allows 600 requests and 200,000 tokens in any 60 s,
//! strictly: it charges a call's prompt and `max_tokens` at its arrival, and corrects that with the answer. Jobs of mixed
//! sizes are worked off.
//!
//! *Sluice* is four workers that know the two limits from their configuration and share nothing but Postgres. *Peers* are
//! loops that pace themselves by the same two limits. Each party has a simulator of its own, and all work at the same time:
//! ten calls a second take no party's processor away. What is measured comes from the simulators' ledgers
//! ([`books`]).
//!
//! The *limit* is what nobody can beat: in each window no more than the allowance, the first one spent at once.

mod books;
mod parties;
mod work;

use anyhow::Result;
use tokio::task::JoinSet;

use crate::{
    progress,
    rig::{Bench, LIMIT, Metric, Peer, SLUICE, Server, Sheet, USED_RATIO},
};
use books::Paced;
use work::{Allowance, Work};

/// What the upstream allows.
const ALLOWANCE: Allowance = Allowance { requests: 600, tokens: 200_000, window_s: 60 };
/// The peers that pace calls, with the number of processes that run at once.
const PACERS: [(&str, &str, usize); 3] = [
    ("cookbook", "cookbook", 1),
    ("cookbook", "cookbook, four at once", 4),
    ("litellm-router", "litellm-router", 1),
];
const VARIANT: &str = "requests=600 tokens=200000 a minute";

const REFUSED: Metric = Metric::new("refused_per_1000", "1");
const FINISH_S: Metric = Metric::new("finish_s", "s");
const FINISH_RATIO: Metric = Metric::new("finish_ratio", "1");

/// Measures it.
pub async fn run(bench: &Bench) -> Result<()> {
    let mut sheet = Sheet::new("Q1");
    let work = Work::of(bench.choose(3_000, 600));
    let server = Server::start().await?;
    for run in 1..=bench.runs {
        let mut parties = JoinSet::new();
        {
            let (work, database) = (work.clone(), server.database().await?);
            parties.spawn(async move { (SLUICE.to_owned(), parties::sluice(database, &work).await) });
        }
        for (name, label, processes) in PACERS {
            let Some(peer) = find(bench, name) else { continue };
            let (work, database) = (work.clone(), server.empty_database().await?);
            parties.spawn(async move {
                (label.to_owned(), parties::peer(database, &peer, processes, &work).await)
            });
        }
        while let Some(party) = parties.join_next().await {
            let (who, paced) = party?;
            let Some(paced) = paced? else { continue };
            progress!("Q1 run {run}: {who}: {paced}");
            note(&mut sheet, &who, &paced);
        }
    }
    bench.publish(&sheet)
}

fn find(bench: &Bench, name: &str) -> Option<Peer> {
    bench.peers().into_iter().find(|peer| peer.name == name)
}

fn note(sheet: &mut Sheet, who: &str, paced: &Paced) {
    let least = ALLOWANCE.least_seconds(paced.finished, paced.tokens);
    if let Some(used) = paced.used_ratio {
        sheet.note(who, VARIANT, USED_RATIO, used);
    }
    sheet.note(who, VARIANT, REFUSED, paced.refused_per_1000());
    sheet.note(who, VARIANT, FINISH_S, paced.seconds);
    if who == SLUICE {
        sheet.note(LIMIT, VARIANT, FINISH_S, least);
    }
    if least > 0.0 {
        sheet.note(who, VARIANT, FINISH_RATIO, paced.seconds / least);
    }
}
