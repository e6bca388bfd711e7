//! Writes every target's seeds into `fuzz/corpora/`, replacing existing ones. Other files stay: inputs that once
//! revealed a fault are kept next to the seeds, named `fault_…`.

use kvgossip_fuzz::TARGETS;
use std::path::Path;

fn main() -> std::io::Result<()> {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpora");
    for target in TARGETS {
        let folder = corpora.join(target.name);
        std::fs::create_dir_all(&folder)?;
        for (name, bytes) in (target.seeds)() {
            std::fs::write(folder.join(name), bytes)?;
        }
    }
    Ok(())
}
