#[path = "../fuzz/src/lib.rs"]
#[allow(dead_code)]
mod targets;
fn main() {
    let target = targets::TARGETS.iter().find(|(n, _)| *n == "dtls").unwrap().1;
    let corpus: Vec<Vec<u8>> = std::fs::read_dir("fuzz/corpus/dtls").unwrap().map(|e| std::fs::read(e.unwrap().path()).unwrap()).collect();
    let mut seed: u64 = std::env::args().nth(1).unwrap().parse().unwrap();
    let mut rnd = move |n: usize| { seed ^= seed << 13; seed ^= seed >> 7; seed ^= seed << 17; (seed % n.max(1) as u64) as usize };
    let end = std::time::Instant::now() + std::time::Duration::from_secs(90);
    let mut runs = 0;
    while std::time::Instant::now() < end {
        let mut input = Vec::new();
        for _ in 0..1 + rnd(4) { input.extend(&corpus[rnd(corpus.len())]); }
        for _ in 0..rnd(8) {
            let n = input.len();
            match rnd(4) {
                0 => input[rnd(n)] = rnd(256) as u8,
                1 => { let i = rnd(n); input[i] ^= 1 << rnd(8); }
                2 => { let i = rnd(n); input.insert(i, rnd(256) as u8); }
                _ => { if n > 1 { input.remove(rnd(n)); } }
            }
        }
        std::fs::write("/tmp/zz_last", &input).unwrap();
        target(&input);
        runs += 1;
    }
    println!("{runs} runs");
}
