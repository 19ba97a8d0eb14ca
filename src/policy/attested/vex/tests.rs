//! What a vendor says, in which order, and what an attacker would like to have heard.

use serde_json::Value;
use serde_json::json;
use serde_json::value::RawValue;

use super::*;
use crate::oci::reference::Reference;
use crate::policy::Evidence;
use crate::policy::Subject;
use crate::policy::json::Text;

const NS: &str = "https://openvex.dev/ns";
const ALL: &str = r#"{"noAffected":"all"}"#;

fn parse(text: &str) -> Result<Vex, String> {
    Vex::parse(&Part::whole(Text(text)), NS).map_err(|fault| fault.fault)
}

fn digest() -> String {
    format!("sha256:{}", "a".repeat(64))
}

fn said(document: &Value) -> Result<Vec<Said>, String> {
    let reference = Reference::parse_normalized("registry.example/shop/api:1").unwrap();
    let manifest_digest = digest().parse().unwrap();
    let subject = Subject { reference: &reference, manifest_digest: &manifest_digest };
    let subject = Signable::new(&subject, &Evidence::default());
    Vex::read(&RawValue::from_string(document.to_string()).unwrap(), &subject)
}

fn document(statements: Vec<Value>) -> Value {
    json!({ "@context": "https://openvex.dev/ns/v0.2.0", "timestamp": "2026-01-01T00:00:00Z", "statements": statements })
}

/// A statement on this image, made in a month of 2026.
fn statement(month: u8, name: &str, status: &str) -> Value {
    json!({
        "vulnerability": { "name": name },
        "timestamp": format!("2026-{month:02}-01T00:00:00+02:00"),
        "products": [{ "@id": format!("pkg:oci/api@{}", digest()) }],
        "status": status,
        "justification": "component_not_present",
    })
}

fn with(mut statement: Value, key: &str, value: Value) -> Value {
    statement[key] = value;
    statement
}

#[track_caller]
fn check(condition: &str, statements: Vec<Value>, expected: Result<(), &str>) {
    let said = said(&document(statements)).unwrap();
    let found = parse(condition).unwrap().holds(said.iter());
    assert_eq!(found.as_ref().copied().map_err(String::as_str), expected);
}

#[test]
fn an_image_that_nothing_affects_is_allowed() {
    let cleared = || vec![statement(2, "CVE-1", "not_affected"), statement(2, "CVE-2", "fixed")];
    check(ALL, cleared(), Ok(()));
    check(r#"{"noAffected":["CVE-1","CVE-3"]}"#, cleared(), Ok(()));
    check(r#"{"cleared":["cve-1","CVE-2"]}"#, cleared(), Ok(()));
}

#[test]
fn an_image_that_something_affects_is_refused() {
    let affected = || vec![statement(2, "CVE-1", "affected"), statement(2, "CVE-2", "fixed")];
    let words = Err("is VEX that says affected for CVE-1");
    check(ALL, affected(), words);
    check(r#"{"noAffected":["CVE-1"]}"#, affected(), words);
    check(r#"{"cleared":["CVE-1"]}"#, affected(), words);
    check(r#"{"noAffected":["CVE-2"]}"#, affected(), Ok(()));
}

#[test]
fn the_latest_statement_holds_wherever_it_stands() {
    let bad = |month| statement(month, "CVE-1", "affected");
    let good = |month| statement(month, "CVE-1", "fixed");
    check(ALL, vec![bad(2), good(3)], Ok(()));
    check(ALL, vec![good(3), bad(2)], Ok(()));
    let words = Err("is VEX that says affected for CVE-1");
    check(ALL, vec![good(2), bad(3)], words);
    check(ALL, vec![bad(3), good(2)], words);
    // At the same moment the worse one holds, however the moment is written.
    check(ALL, vec![bad(2), good(2)], words);
    let same = with(good(2), "timestamp", json!("2026-01-31T22:00:00Z"));
    check(ALL, vec![bad(2), same], words);
    // A statement without a time has that of its document, which is before all of them.
    let mut no_time = good(2);
    no_time.as_object_mut().unwrap().remove("timestamp");
    check(ALL, vec![bad(2), no_time], words);
}

#[test]
fn a_statement_about_another_vulnerability_does_not_supersede() {
    let bad = statement(2, "CVE-1", "affected");
    check(
        ALL,
        vec![bad.clone(), statement(3, "CVE-11", "fixed")],
        Err("is VEX that says affected for CVE-1"),
    );
    let named = json!({ "name": "GHSA-1", "aliases": ["CVE-1"] });
    check(ALL, vec![bad, with(statement(3, "", "fixed"), "vulnerability", named)], Ok(()));
}

#[test]
fn what_is_under_investigation_is_not_cleared() {
    let open = || vec![statement(2, "CVE-1", "under_investigation")];
    let words = Err("is VEX that says under_investigation for CVE-1");
    check(ALL, open(), words);
    check(r#"{"noAffected":"all","allowUnderInvestigation":true}"#, open(), Ok(()));
    let both = r#"{"noAffected":"all","allowUnderInvestigation":true,"cleared":["CVE-1"]}"#;
    check(both, open(), words);
    let mut later = vec![statement(1, "CVE-1", "fixed")];
    later.extend(open());
    check(r#"{"cleared":["CVE-1"]}"#, later, words);
}

#[test]
fn a_statement_about_another_product_does_not_clear_this_image() {
    let of = |status: &str, id: String| {
        with(statement(3, "CVE-1", status), "products", json!([{ "@id": id }]))
    };
    let other = format!("pkg:oci/web@sha256:{}", "b".repeat(64));
    let silent = Err("is VEX that says nothing of this image");
    check(ALL, vec![of("fixed", other.clone())], silent);
    check(r#"{"cleared":["CVE-1"]}"#, vec![of("fixed", other.clone())], silent);
    let here = statement(2, "CVE-1", "affected");
    let words = Err("is VEX that says affected for CVE-1");
    check(ALL, vec![here.clone(), of("fixed", other.clone())], words);
    check(ALL, vec![here, of("fixed", "pkg:oci/api".to_owned())], words);
    let quiet = || statement(2, "CVE-2", "fixed");
    check(
        r#"{"cleared":["CVE-1"]}"#,
        vec![quiet(), of("fixed", "pkg:oci/api".to_owned())],
        Err("is VEX that does not clear CVE-1"),
    );
    // And what is said of another product does not count against this image,
    check(ALL, vec![quiet(), of("affected", other)], Ok(()));
    // unless it may be this image, or something in it.
    let unclear = Err(
        "is VEX that says affected for CVE-1 of \"pkg:deb/debian/git\", which may be this image",
    );
    check(ALL, vec![quiet(), of("affected", "pkg:deb/debian/git".to_owned())], unclear);
}

#[test]
fn a_statement_about_a_part_does_not_clear_the_whole() {
    let of = |month, status: &str, parts: Value| {
        let product =
            json!([{ "@id": format!("pkg:oci/api@{}", digest()), "subcomponents": parts }]);
        with(statement(month, "CVE-1", status), "products", product)
    };
    let ssl = json!([{ "@id": "pkg:deb/debian/libssl3" }]);
    let tls = json!([{ "@id": "pkg:deb/debian/libgnutls30" }]);
    let words = Err("is VEX that says affected for CVE-1");
    check(ALL, vec![of(2, "affected", ssl.clone()), of(3, "fixed", tls)], words);
    check(ALL, vec![of(2, "affected", json!([])), of(3, "fixed", ssl.clone())], words);
    check(ALL, vec![of(2, "affected", ssl.clone()), of(3, "fixed", ssl.clone())], Ok(()));
    check(ALL, vec![of(2, "affected", ssl), of(3, "fixed", json!(null))], Ok(()));
}

#[test]
fn a_statement_without_a_product_is_about_what_the_attestation_is_about() {
    let bare = |status: &str| with(statement(2, "CVE-1", status), "products", json!(null));
    check(ALL, vec![bare("fixed")], Ok(()));
    check(ALL, vec![bare("affected")], Err("is VEX that says affected for CVE-1"));
}

#[test]
fn the_first_version_of_the_format_is_read() {
    let old = |status: &str| {
        let mut old = with(statement(2, "", status), "vulnerability", json!("CVE-1"));
        old["products"] = json!([format!("pkg:oci/api@{}", digest())]);
        old["subcomponents"] = json!(["pkg:deb/debian/libssl3"]);
        old
    };
    check(r#"{"cleared":["CVE-1"]}"#, vec![old("fixed")], Ok(()));
    check(ALL, vec![old("affected")], Err("is VEX that says affected for CVE-1"));
}

#[test]
fn a_document_that_says_nothing_is_no_consent() {
    check(ALL, Vec::new(), Err("is VEX that says nothing of this image"));
    let quiet = vec![statement(2, "CVE-2", "fixed")];
    check(r#"{"cleared":["CVE-1"]}"#, quiet, Err("is VEX that does not clear CVE-1"));
}

#[test]
fn a_statement_that_is_none_spoils_its_document() {
    let bad = |key: &str, value: Value| {
        let broken = with(statement(2, "CVE-1", "not_affected"), key, value);
        said(&document(vec![statement(2, "CVE-2", "fixed"), broken])).unwrap_err()
    };
    assert_eq!(
        bad("status", json!("mostly_harmless")),
        "is VEX with the unknown status \"mostly_harmless\""
    );
    assert_eq!(bad("justification", json!("")), "is VEX with a not_affected that is not justified");
    assert_eq!(bad("timestamp", json!("yesterday")), "is VEX with a statement of no time");
    assert_eq!(bad("vulnerability", json!({})), "is VEX with a statement of no vulnerability");
    assert_eq!(bad("vulnerability", json!(7)), "is no OpenVEX document");
    assert_eq!(bad("products", json!("pkg:oci/api")), "is no OpenVEX document");
    let mut no_time = document(vec![statement(2, "CVE-1", "fixed")]);
    no_time["timestamp"] = Value::Null;
    no_time["statements"][0]["timestamp"] = Value::Null;
    assert_eq!(said(&no_time).unwrap_err(), "is VEX with a statement of no time");
    for context in ["https://openvex.dev/nsx", "https://csaf.example", ""] {
        let other = with(document(Vec::new()), "@context", json!(context));
        assert_eq!(said(&other).unwrap_err(), "is no OpenVEX document");
    }
}

#[test]
fn more_statements_than_can_be_compared_are_refused() {
    let many = vec![with(statement(2, "CVE-1", "fixed"), "products", json!(null)); MOST + 1];
    check(ALL, many, Err("is VEX of more than 10000 statements"));
}

#[test]
fn a_condition_that_cannot_mean_one_thing_is_a_fault_of_the_policy() {
    for text in [
        "{}",
        r#"{"allowUnderInvestigation":true}"#,
        r#"{"noAffected":[]}"#,
        r#"{"noAffected":["ALL",""]}"#,
        r#"{"noAffected":"ALL"}"#,
        r#"{"noAffected":true}"#,
        r#"{"noAffected":"all","cleared":[]}"#,
        r#"{"noAffected":"all","more":1}"#,
    ] {
        parse(text).unwrap_err();
    }
    let whole = Part::whole(Text(ALL));
    Vex::parse(&whole, "https://openvex.dev/ns/v0.2.0").unwrap();
    Vex::parse(&whole, "https://openvex.dev/nsx").unwrap_err();
}
