//! Shows how far a run is: a bar on a terminal, now and then a line elsewhere.

use std::{
    collections::VecDeque,
    io::IsTerminal,
    time::{Duration, Instant},
};

use indicatif::{HumanCount, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::tally::Tally;

/// The rate is that of the last ten seconds.
const RATE_WINDOW: Duration = Duration::from_secs(10);
/// Lines elsewhere: at most every two seconds; then when a twentieth more is done, or after half a minute.
const LINE_EVERY: Duration = Duration::from_secs(2);
const LINE_AT_LEAST_EVERY: Duration = Duration::from_secs(30);
const LINE_STEP: u64 = 20;

/// The display.
pub struct Progress {
    bar: Option<ProgressBar>,
    samples: VecDeque<(Instant, u64)>,
    line_at: Instant,
    line_done: u64,
}

impl Progress {
    /// Begins to show.
    pub fn start(tally: &Tally) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(tally.total), ProgressDrawTarget::stderr_with_hz(8));
            // The template is a constant.
            let style = ProgressStyle::with_template("{wide_bar} {percent:>3}%\n{msg}");
            bar.set_style(style.expect("the template is right"));
            bar
        });
        Self { bar, samples: VecDeque::new(), line_at: Instant::now(), line_done: tally.done() }
    }

    /// Shows the counts as they are now.
    pub fn show(&mut self, tally: &Tally, in_flight: usize, now: Instant) {
        self.samples.push_back((now, tally.done()));
        while self.samples.front().is_some_and(|(at, _)| now.duration_since(*at) > RATE_WINDOW) {
            self.samples.pop_front();
        }
        if let Some(bar) = &self.bar {
            bar.set_position(tally.done());
            bar.set_message(self.text(tally, in_flight, now));
            return;
        }
        let waited = now.duration_since(self.line_at);
        let has_moved = (tally.done() - self.line_done) * LINE_STEP >= tally.total.max(1);
        if waited >= LINE_AT_LEAST_EVERY || (waited >= LINE_EVERY && has_moved) {
            eprintln!("{}", self.text(tally, in_flight, now));
            (self.line_at, self.line_done) = (now, tally.done());
        }
    }

    /// Says something without tearing the bar.
    pub fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{line}")),
            None => eprintln!("{line}"),
        }
    }

    /// Takes the bar away.
    pub fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }

    fn text(&self, tally: &Tally, in_flight: usize, now: Instant) -> String {
        let (done, total) = (HumanCount(tally.done()), HumanCount(tally.total));
        let mut parts = vec![format!("{done} of {total} done")];
        if tally.not_well() > 0 {
            parts.push(format!("{} failed", HumanCount(tally.not_well())));
        }
        if tally.held > 0 {
            parts.push(format!("{} held", HumanCount(tally.held)));
        }
        let rate = self.rate_per_s(tally, now);
        parts.push(format!("{rate:.0}/s"));
        parts.push(format!("{in_flight} in flight"));
        let (input, output) = (HumanCount(tally.input_tokens), HumanCount(tally.output_tokens));
        parts.push(format!("{input} tokens in, {output} out"));
        parts.push(tally.spent().to_string());
        let left = tally.total.saturating_sub(tally.done());
        if rate > 0.0 && left > 0 {
            parts.push(format!("{} left", HumanDuration(Duration::from_secs_f64(left as f64 / rate))));
        }
        parts.join(" · ")
    }

    fn rate_per_s(&self, tally: &Tally, now: Instant) -> f64 {
        let Some((since, done)) = self.samples.front() else { return 0.0 };
        let seconds = now.duration_since(*since).as_secs_f64();
        if seconds > 0.0 { tally.done().saturating_sub(*done) as f64 / seconds } else { 0.0 }
    }
}
