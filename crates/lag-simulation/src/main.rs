//! For now: one line per run.
#![allow(clippy::print_stdout, reason = "a command")]
use lag_simulation::{
    cluster::Consumer,
    policy::Policy,
    run::{Setup, run},
    workload,
};

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let only = args.get(1).cloned().unwrap_or_default();
    let story = args.get(2).is_some();
    for consumer in [Consumer::Own, Consumer::Java] {
        for policy in [Policy::Lag, Policy::Busy] {
            let (mut n, mut sr, mut sp, mut sa, mut sc) = (0.0, 0.0, 0.0, 0.0, 0.0);
            let all = if only == "held" {
                workload::held_out()
            } else {
                workload::known()
            };
            for w in all
                .iter()
                .filter(|w| only == "held" || w.name.starts_with(&only))
            {
                let mut bp=0; let mut ba=0.0; let (mut r, mut p, mut m, mut a, mut c, mut oc) = (0.0, 0, 0, 0.0, 0.0, 0.0);
                let seeds: u64 = std::env::var("SEEDS").map_or(3, |s| s.parse().unwrap());
                for seed in 1..=seeds {
                    let setup = Setup::new(consumer);
                    let base = run(w, Policy::Oracle, &setup, seed);
                    let o = run(w, policy, &setup, seed);
                    r += o.pod_hours / base.pod_hours / seeds as f64;
                    p = p.max(o.p99());
                    m = m.max(o.max());
                    a += o.above(60) / seeds as f64;
                    c += o.changes / seeds as f64;
                    bp = bp.max(base.p99()); ba += base.above(60) / seeds as f64; oc += base.changes / seeds as f64;
                    if story {
                        for (s, line) in &o.story {
                            println!("   {:>6} {line}", s);
                        }
                        for m in o.moments.iter().step_by(4) {
                            print!("{}:{}:{} ", m.second / 60, m.replicas, m.age);
                        }
                        println!();
                    }
                }
                n += 1.0;
                sr += r;
                sp += p as f64;
                sa += a;
                sc += c;
                println!(
                    "{consumer:?} {policy:?} {:<12} pods {r:.2} p99 {p:>4} max {m:>4} >2T {a:.2}% chg/h {c:.1} (oracle {oc:.1} p99 {bp} >2T {ba:.2})",
                    w.name
                );
            }
            println!(
                "{consumer:?} {policy:?} MEAN         pods {:.3} p99 {:.0} >2T {:.2} chg {:.1}",
                sr / n,
                sp / n,
                sa / n,
                sc / n
            );
        }
    }
}
