//! The record on guests, and what people may do to it.

use proptest::prelude::*;

use super::{campus, image, name};
use crate::debian::date::Moment;
use crate::digest::Digest;
use crate::swap::*;

fn example() -> Record {
    Record {
        site: campus(1).site().clone(),
        node: name("sql1"),
        role: name("galera"),
        image: image(&name("galera"), 2),
        artifact: "imgbuild-galera-1.0.0-0123456789ab.qcow2".to_owned(),
        generation: 2,
        phase: Phase::Failed,
        since: Moment::from_unix(1_800_000_000),
        origin: Origin::Swap,
        volumes: [name("mysql")].into(),
        replaces: Some(Replaced { guest: GuestId(4000), image: image(&name("galera"), 1) }),
        successor: None,
        reason: Some("not ready after 90 s: wsrep_ready is OFF".to_owned()),
    }
}

#[test]
fn the_format_stays_as_it_is_on_guests() {
    let text = example().describe("").unwrap();
    assert_eq!(
        text,
        r#"sql1 of campus: imgbuild wrote what follows, change nothing in it.

~~~toml
# imgbuild record
schema = 1
site = "campus"
node = "sql1"
role = "galera"
image = "945fdff0723d4a57f960bbe619b32dca2b654205f885096c842d8850c365424c"
artifact = "imgbuild-galera-1.0.0-0123456789ab.qcow2"
generation = 2
phase = "failed"
since = "2027-01-15T08:00:00Z"
origin = "swap"
volumes = ["mysql"]
reason = "not ready after 90 s: wsrep_ready is OFF"
replaces = 4000
replaces_image = "86a58aefe6465d276440ddae9595c0b95749a32b6df87afaf6d225f77e247c61"
# end of record
~~~
"#
    );
    assert_eq!(Record::read(&text), Reading::Record(Box::new(example())));
}

#[test]
fn a_record_that_is_no_longer_one_is_never_taken_for_one() {
    let good = example().describe("").unwrap();
    let site = Some(campus(1).site().clone());
    let damaged = |text: &str| match Record::read(text) {
        Reading::Unreadable(RecordError::Damaged(why), of) => (why, of),
        other => panic!("{other:?}\n{text}"),
    };
    for (from, to, why) in [
        ("# end of record\n", "", "the line `# end of record` is missing"),
        ("site = ", "# imgbuild record\nsite = ", "there are two of them"),
        ("node = \"sql1\"\n", "", "missing field `node`"),
        ("generation = 2", "generation = -2", "invalid value"),
        ("phase = \"failed\"", "phase = \"done\"", "unknown variant `done`"),
        ("replaces = 4000\n", "", "`replaces` and `replaces_image` belong together"),
        ("\"mysql\"", "\"My SQL\"", "the volume `My SQL` is not a volume name"),
        ("artifact = \"imgbuild-", "artifact = \"../", "is not a file name"),
        ("schema = 1", "schema = 0", "no schema that there ever was"),
        ("schema = 1", "schema = 1\nx = 2", "unknown field `x`"),
        ("origin = \"swap\"", "origin = ", "string values must be quoted"),
    ] {
        assert!(good.contains(from), "{from}");
        let (found, of) = damaged(&good.replace(from, to));
        assert!(found.contains(why), "{from:?} to {to:?}: {found}");
        assert_eq!(of, site, "{from:?}");
    }
    let newer = Record::read(&good.replace("schema = 1", "schema = 2\nmore = true"));
    assert_eq!(newer, Reading::Unreadable(RecordError::Newer(2), site));
    assert_eq!(Record::read("Somebody's mail server\n"), Reading::None);
    assert_eq!(Record::read(""), Reading::None);
}

#[test]
fn what_people_write_stays_until_there_is_no_room() {
    let first = example().describe("Ask Jane before you touch this.\n").unwrap();
    assert!(first.starts_with("Ask Jane before you touch this.\n\nsql1 of campus: "), "{first}");
    let below = format!("{first}\nMoved to rack 7.\n");
    let second = Record { phase: Phase::Current, reason: None, ..example() };
    let second = second.describe(&below).unwrap();
    assert!(second.starts_with("Ask Jane before you touch this.\n"), "{second}");
    assert!(second.contains("Moved to rack 7.\n"), "{second}");
    assert_eq!(second.matches("# imgbuild record").count(), 1, "{second}");
    let long = "x".repeat(8000);
    assert!(matches!(example().describe(&long), Err(RecordError::TooLong(_))));
}

#[test]
fn tags_are_those_that_proxmox_takes_and_foreign_ones_stay() {
    let before = [
        "backup-daily",
        "imgbuild",
        "imgbuild-old",
        "imgbuild-node-sql9",
        "img-0123456789ab",
        "img-other",
    ];
    let before: Vec<String> = before.iter().map(ToString::to_string).collect();
    let short = format!("img-{}", example().image.short());
    let expected = [
        "backup-daily",
        "img-other",
        "imgbuild",
        "imgbuild-failed",
        "imgbuild-node-sql1",
        "imgbuild-site-campus",
    ];
    let mut expected: Vec<String> = expected.iter().map(ToString::to_string).collect();
    expected.push(short);
    expected.sort();
    let tags = merge_tags(&before, &example());
    assert_eq!(tags, expected);
    // COM PVE/JSONSchema.pm, `pve-tag`.
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || b"_+.-".contains(&byte);
    assert!(tags.iter().all(|tag| tag.bytes().all(valid)), "{tags:?}");
}

fn records() -> impl Strategy<Value = Record> {
    let names = ("[a-z][a-z0-9]{0,8}", "[a-zA-Z0-9]{1,9}(\\.[a-z]{1,5})?", "[a-z][a-z0-9]{0,8}");
    let phases = prop::sample::select(vec![Phase::New, Phase::Current, Phase::Failed, Phase::Old]);
    let origins = prop::sample::select(vec![Origin::Swap, Origin::Rollback]);
    let volumes = prop::collection::btree_set("[a-z][a-z0-9]{0,9}", 0..4);
    let replaces = prop::option::of((any::<u32>(), any::<u64>()));
    let state = (any::<u32>(), phases, any::<u64>(), origins, volumes);
    (names, state, replaces, prop::option::of(any::<u32>()), prop::option::of(".{0,400}")).prop_map(
        |(
            (site, node, role),
            (generation, phase, since, origin, volumes),
            replaces,
            next,
            reason,
        )| {
            Record {
                // `none` is no site.
                site: name(&format!("s{site}")),
                node: name(&node),
                role: name(&role),
                image: Digest::of(&node),
                artifact: format!("imgbuild-{role}-1.tar.zst"),
                generation,
                phase,
                since: Moment::from_unix(since),
                origin,
                volumes: volumes.iter().map(|volume| name(volume)).collect(),
                replaces: replaces.map(|(guest, seed)| Replaced {
                    guest: GuestId(guest),
                    image: Digest::of(seed.to_string()),
                }),
                successor: next.map(GuestId),
                reason,
            }
        },
    )
}

/// Lines as people write them, with some that look like ours.
fn prose() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        4 => "[^\r\n]{0,40}",
        1 => prop::sample::select(vec!["~~~".to_owned(), "```".to_owned(), "schema = 1".to_owned()]),
    ];
    prop::collection::vec(line, 0..5).prop_map(|lines| lines.join("\n"))
}

/// What a record is once written: a reason is one line, and not a long one.
fn settled(record: &Record) -> Record {
    match Record::read(&record.describe("").unwrap()) {
        Reading::Record(record) => *record,
        other => panic!("{other:?}"),
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(record in records(), before in prose(), after in prose()) {
        let written = record.describe(&before).unwrap();
        let expected = Record { reason: None, ..record.clone() };
        let read = |text: &str| match Record::read(text) {
            Reading::Record(record) => *record,
            other => panic!("{other:?}\n{text}"),
        };
        prop_assert_eq!(Record { reason: None, ..read(&written) }, expected);
        let settled = settled(&record);
        prop_assert_eq!(&read(&written), &settled);
        // Proxmox gives the text back with a line feed more, editors with other ends of lines.
        prop_assert_eq!(&read(&format!("{written}\n")), &settled);
        prop_assert_eq!(&read(&written.replace('\n', "\r\n")), &settled);
        prop_assert_eq!(&read(&format!("{written}{after}")), &settled);
        prop_assert_eq!(&read(written.trim_end()), &settled);
    }

    #[test]
    fn writing_again_changes_nothing(record in records(), before in prose()) {
        let once = record.describe(&before).unwrap();
        prop_assert_eq!(&settled(&record).describe(&once).unwrap(), &once);
        prop_assert_eq!(&record.describe(&format!("{once}\n")).unwrap(), &once);
    }

    #[test]
    fn no_text_is_too_strange_to_be_read(text in ".{0,200}", cut in any::<prop::sample::Index>()) {
        let _ = Record::read(&text);
        let _ = Lease::read(&text);
        let whole = example().describe("").unwrap();
        let at = cut.index(whole.len());
        prop_assert!(!matches!(Record::read(&whole[..at]), Reading::Record(_)) || at > whole.len() - 6);
        let _ = Record::read(&format!("{}{text}{}", &whole[..at], &whole[at..]));
    }
}
