//! The process' own metrics, under the names that every Prometheus client library gives them. From
//! `/proc`; where there is none, there are none.

use std::{fmt, fs};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};

/// Clock ticks a second in what the kernel tells: the same on all architectures that we build for.
const TICKS: f64 = 100.0;

/// The process at one moment; `None`: not known.
#[derive(Clone, Copy, Debug, Default)]
pub struct Process {
    cpu_seconds: Option<f64>,
    start_seconds: Option<f64>,
    resident_bytes: Option<u64>,
    threads: Option<u64>,
    open_descriptors: Option<u64>,
    most_descriptors: Option<u64>,
}

impl Process {
    /// As it is now.
    pub fn read() -> Self {
        let read = |file: &str| fs::read_to_string(format!("/proc/{file}")).unwrap_or_default();
        let (stat, status, limits) = (read("self/stat"), read("self/status"), read("self/limits"));
        // The program's name, in brackets, may have spaces. The third field comes after it.
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
        let ticks = |field: usize| {
            let text = fields.split_whitespace().nth(field - 3)?;
            Some(text.parse::<f64>().ok()? / TICKS)
        };
        let boot = after(&read("stat"), "btime");
        let descriptors = fs::read_dir("/proc/self/fd");
        Self {
            cpu_seconds: ticks(14).zip(ticks(15)).map(|(user, system)| user + system),
            start_seconds: ticks(22).zip(boot).map(|(start, boot)| boot as f64 + start),
            resident_bytes: after(&status, "VmRSS:").map(|kilobytes| kilobytes * 1024),
            threads: after(&status, "Threads:"),
            // One is the folder that is read.
            open_descriptors: descriptors
                .ok()
                .map(|all| (all.count() as u64).saturating_sub(1)),
            most_descriptors: after(&limits, "Max open files"),
        }
    }
}

/// The number after a name at the start of a line.
fn after(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        if let Some(value) = self.cpu_seconds {
            let help = "Time on a processor, of user and system";
            let unit = Some(&Unit::Seconds);
            let metric =
                encoder.encode_descriptor("process_cpu", help, unit, MetricType::Counter)?;
            ConstCounter::new(value).encode(metric)?;
        }
        if let Some(value) = self.start_seconds {
            let (name, help) = ("process_start_time", "When the process started, since 1970");
            let unit = Some(&Unit::Seconds);
            let metric = encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?;
            ConstGauge::new(value).encode(metric)?;
        }
        let counts = [
            (
                "process_resident_memory",
                "Memory in use",
                Some(&Unit::Bytes),
                self.resident_bytes,
            ),
            ("process_threads", "Threads", None, self.threads),
            (
                "process_open_fds",
                "Open file descriptors",
                None,
                self.open_descriptors,
            ),
            (
                "process_max_fds",
                "Most file descriptors that may be open",
                None,
                self.most_descriptors,
            ),
        ];
        for (name, help, unit, value) in counts {
            if let Some(value) = value {
                let metric = encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?;
                ConstGauge::new(value).encode(metric)?;
            }
        }
        Ok(())
    }
}
