//! Makes `priv/oma/objects.tsv` and `priv/oma/NOTICE` from folders of object definition files
//! (DDF), such as a copy of OMA's registry:
//!
//! ```sh
//! cargo run --example oma_table -- lwm2m-registry lwm2m-registry/version_history
//! ```
//!
//! Of files for the same version of an object the first one counts. Only facts are taken: ids,
//! versions, names, types, operations, multiplicity and units. A file without the text of the
//! BSD licence is refused.

// A program of its own that reads and writes files; a failure ends it with a message.
#![allow(clippy::disallowed_methods, clippy::print_stdout)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use lwm2m_gateway::lwm2m::model::{MAX_FILE_BYTES, ObjectDefinition, ObjectModels};

const LICENCE: &str = "\
Redistribution and use in source and binary forms, with or without
modification, are permitted provided that the following conditions
are met:

1. Redistributions of source code must retain the above copyright
notice, this list of conditions and the following disclaimer.
2. Redistributions in binary form must reproduce the above copyright
notice, this list of conditions and the following disclaimer in the
documentation and/or other materials provided with the distribution.
3. Neither the name of the copyright holder nor the names of its
contributors may be used to endorse or promote products derived
from this software without specific prior written permission.

THIS SOFTWARE IS PROVIDED BY THE COPYRIGHT HOLDERS AND CONTRIBUTORS
\"AS IS\" AND ANY EXPRESS OR IMPLIED WARRANTIES, INCLUDING, BUT NOT
LIMITED TO, THE IMPLIED WARRANTIES OF MERCHANTABILITY AND FITNESS
FOR A PARTICULAR PURPOSE ARE DISCLAIMED. IN NO EVENT SHALL THE
COPYRIGHT HOLDER OR CONTRIBUTORS BE LIABLE FOR ANY DIRECT, INDIRECT,
INCIDENTAL, SPECIAL, EXEMPLARY, OR CONSEQUENTIAL DAMAGES (INCLUDING,
BUT NOT LIMITED TO, PROCUREMENT OF SUBSTITUTE GOODS OR SERVICES;
LOSS OF USE, DATA, OR PROFITS; OR BUSINESS INTERRUPTION) HOWEVER
CAUSED AND ON ANY THEORY OF LIABILITY, WHETHER IN CONTRACT, STRICT
LIABILITY, OR TORT (INCLUDING NEGLIGENCE OR OTHERWISE) ARISING IN
ANY WAY OUT OF THE USE OF THIS SOFTWARE, EVEN IF ADVISED OF THE
POSSIBILITY OF SUCH DAMAGE.
";

fn main() {
    let folders: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let mut files: Vec<(String, Vec<u8>)> = folders
        .iter()
        .flat_map(|folder| xml_files(folder))
        .collect();
    assert!(!files.is_empty(), "oma_table FOLDER... of *.xml");
    let mut notices = BTreeSet::new();
    for (name, content) in &files {
        let text = std::str::from_utf8(content).expect(name);
        assert!(is_bsd(text), "{name}: without the BSD licence");
        notices.extend(copyright(text));
    }
    // The last definition of a version wins, and the first folder is to.
    files.reverse();
    let (models, errors) = ObjectModels::default().load(files, MAX_FILE_BYTES);
    assert!(errors.is_empty(), "{errors:#?}");
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("priv/oma");
    std::fs::create_dir_all(&target).unwrap();
    std::fs::write(target.join("objects.tsv"), table(&models)).unwrap();
    std::fs::write(target.join("NOTICE"), notice(&notices)).unwrap();
    println!("{} definitions", models.objects().len());
}

/// Name and content of the files of a folder, by name.
fn xml_files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|end| end == "xml"));
    paths.sort();
    let read = |path: PathBuf| (path.display().to_string(), std::fs::read(&path).unwrap());
    paths.into_iter().map(read).collect()
}

fn table(models: &ObjectModels) -> String {
    let mut table = "\
# Objects of the registry of OMA SpecWorks, https://github.com/OpenMobileAlliance/lwm2m-registry:
# facts only, made by examples/oma_table.rs. Copyright and licence of the files: priv/oma/NOTICE.
# Form: src/lwm2m/model/table.rs.
"
    .to_owned();
    for object in models.objects() {
        object_lines(&mut table, object).unwrap();
    }
    table
}

fn object_lines(table: &mut String, object: &ObjectDefinition) -> std::fmt::Result {
    let ObjectDefinition {
        id, version, name, ..
    } = object;
    let flags = signs("", object.multiple, object.mandatory);
    writeln!(table, "/{id}\t{version}\t{flags}\t{name}")?;
    for resource in object.resources() {
        let can = resource.operations;
        let letters = [(can.read, "R"), (can.write, "W"), (can.execute, "E")];
        let letters: String = letters.into_iter().filter(|l| l.0).map(|l| l.1).collect();
        let flags = signs(&letters, resource.multiple, resource.mandatory);
        let kind = resource.kind.map_or("", |kind| kind.name());
        let (id, units, name) = (resource.id, &resource.units, &resource.name);
        writeln!(table, "{id}\t{flags}\t{kind}\t{units}\t{name}")?;
    }
    Ok(())
}

fn signs(letters: &str, multiple: bool, mandatory: bool) -> String {
    let multiple = if multiple { "*" } else { "" };
    let mandatory = if mandatory { "!" } else { "" };
    format!("{letters}{multiple}{mandatory}")
}

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn is_bsd(text: &str) -> bool {
    let text = words(text);
    [
        "Redistribution and use in source and binary forms",
        "THIS SOFTWARE IS PROVIDED BY",
    ]
    .iter()
    .all(|part| text.contains(part))
}

/// The copyright lines of a file: `Copyright`, then a year.
fn copyright(text: &str) -> impl Iterator<Item = String> {
    text.lines().filter_map(|line| {
        let line = words(line);
        let (_, after) = line.split_once("Copyright ")?;
        let year = after.trim_start_matches("(c) ");
        year.starts_with(|c: char| c.is_ascii_digit()).then(|| {
            let whose = after.trim_end_matches("All rights reserved.").trim_end();
            format!("Copyright {}", whose.trim_end_matches('.'))
        })
    })
}

fn notice(notices: &BTreeSet<String>) -> String {
    let mut text = "\
The object definitions in objects.tsv are facts taken from the files of the LwM2M registry of
OMA SpecWorks, https://github.com/OpenMobileAlliance/lwm2m-registry. Those files carry these
copyright notices and this licence, some without its third condition.

"
    .to_owned();
    for line in notices {
        text.push_str(line);
        text.push('\n');
    }
    text.push('\n');
    text.push_str(LICENCE);
    text
}
