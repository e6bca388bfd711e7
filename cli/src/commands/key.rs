//! `keygen`: generates and shows RSA keys.

use crate::error::{Exit, Result};
use crate::files::{self, Readers};
use crate::keys::generate;
use crate::output::{self, Format, say};
use crate::progress;
use clap::Args;
use kvgossip_grants::{KEY_BITS, PublicKey, Signer};
use serde_json::json;
use std::path::PathBuf;

/// Make an RSA key, or show the public half of one.
///
/// The command writes the private key as PKCS#8 PEM to FILE or to standard output. Only the owner may read FILE, and
/// an existing FILE is never overwritten. The entity id of the key goes to standard error.
#[derive(Debug, Args)]
pub(crate) struct KeygenArgs {
    /// File for the new private key; `-` (the default) is standard output.
    #[arg(short, value_name = "FILE", conflicts_with = "public_of")]
    out: Option<PathBuf>,
    /// Size of the new key in bits: 2048, 3072 or 4096.
    #[arg(long, value_name = "N", default_value = "2048", value_parser = bits, conflicts_with = "public_of")]
    bits: usize,
    /// Print the public key (PEM) of the private or public key in FILE; `-` is standard input.
    #[arg(short = 'y', value_name = "FILE")]
    public_of: Option<PathBuf>,
    /// With -y: print the replica id of this key instead (for --peer and --allow-peers).
    #[arg(long, requires = "public_of")]
    replica_id: bool,
}

fn bits(text: &str) -> Result<usize, String> {
    let found = KEY_BITS.into_iter().find(|bits| bits.to_string() == text);
    found.ok_or_else(|| "an RSA key has 2048, 3072 or 4096 bits here".to_owned())
}

/// Runs `keygen`.
pub(crate) fn keygen(args: &KeygenArgs, format: Format) -> Result<Exit> {
    match &args.public_of {
        Some(file) if args.replica_id => show_replica(&files::public_key(file)?, format)?,
        Some(file) => show_public(&files::public_key(file)?, format)?,
        None => make(args, format)?,
    }
    Ok(Exit::Ok)
}

fn show_public(key: &PublicKey, format: Format) -> Result<()> {
    let entity = key.entity().to_string();
    match format {
        Format::Text => {
            output::text(&key.to_pem())?;
            say(&format!("entity {entity}"));
            Ok(())
        }
        Format::Json => {
            output::json(&json!({ "entity": entity, "bits": key.bits(), "public_pem": key.to_pem() }))
        }
    }
}

fn show_replica(key: &PublicKey, format: Format) -> Result<()> {
    let id = key.replica().to_string();
    match format {
        Format::Text => output::text(&format!("{id}\n")),
        Format::Json => output::json(&json!({ "replica": id })),
    }
}

fn make(args: &KeygenArgs, format: Format) -> Result<()> {
    let file = args.out.as_deref().filter(|path| !files::is_dash(path));
    // Checked before the work; that no file is overwritten is ensured again when it is created.
    if let Some(path) = file.filter(|path| path.symlink_metadata().is_ok()) {
        return Err(files::exists(path));
    }
    let waiting = format!("making an RSA key of {} bits…", args.bits);
    let (key, pem) = progress::while_working(&waiting, || generate(args.bits))?;
    let entity = key.public().entity().to_string();
    match (file, format) {
        (Some(path), _) => files::create(path, Readers::Owner, pem.as_bytes())?,
        (None, Format::Text) => output::text(&pem)?,
        (None, Format::Json) => {}
    }
    match format {
        Format::Text => say(&format!("entity {entity}")),
        Format::Json => {
            let mut answer = json!({ "entity": entity, "bits": args.bits });
            match file {
                Some(path) => answer["file"] = path.display().to_string().into(),
                None => answer["private_pem"] = pem.into(),
            }
            output::json(&answer)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_sizes_of_the_format_are_offered() {
        assert_eq!(bits("3072"), Ok(3072));
        for text in ["1024", "0", "", "+2048", "02048", "18446744073709553664"] {
            assert!(bits(text).is_err(), "{text}");
        }
    }
}
