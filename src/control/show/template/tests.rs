use proptest::prelude::*;
use serde_json::json;

use super::*;

fn value() -> Value {
    json!({
        "Name": "/web",
        "State": {"Pid": 7, "Running": true, "Error": null},
        "List": ["a", 1],
        "NetworkSettings": {
            "Networks": {"my-net": {"IPAddress": "10.1.0.2"}, "bridge": {"IPAddress": "172.17.0.2"}},
            "Ports": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8000"}], "443/tcp": null},
        },
    })
}

/// As Go's text/template has it, with Docker's functions.
#[test]
fn templates_come_out_as_in_go() {
    let table = [
        ("{{.Name}}", "/web"),
        ("pid {{ .State.Pid }} of {{.Name}}!", "pid 7 of /web!"),
        ("{{json .State}}", r#"{"Pid":7,"Running":true,"Error":null}"#),
        ("{{.State | json}}", r#"{"Pid":7,"Running":true,"Error":null}"#),
        ("{{json .Name}}", "\"/web\""),
        ("{{.State}}", "map[Error:<no value> Pid:7 Running:true]"),
        ("{{.List}}", "[a 1]"),
        ("{{.State.Error}}", "<no value>"),
        ("plain", "plain"),
        ("", ""),
        ("{{.NetworkSettings.Networks.bridge.IPAddress}}", "172.17.0.2"),
        ("{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}", "172.17.0.2 10.1.0.2 "),
        (
            "{{range $k, $v := .NetworkSettings.Networks}}{{$k}}={{$v.IPAddress}};{{end}}",
            "bridge=172.17.0.2;my-net=10.1.0.2;",
        ),
        ("{{range $i, $e := .List}}{{$i}}{{$e}}{{end}}", "0a11"),
        ("{{range $e := .List}}<{{$e}}>{{end}}", "<a><1>"),
        ("{{range .State.Error}}x{{else}}none{{end}}", "none"),
        ("{{(index (index .NetworkSettings.Ports \"80/tcp\") 0).HostPort}}", "8000"),
        ("{{index .NetworkSettings.Ports `80/tcp` 0 \"HostIp\"}}", "0.0.0.0"),
        ("{{index .NetworkSettings.Ports \"22/tcp\"}}", "<no value>"),
        ("{{with index .NetworkSettings.Networks \"my-net\"}}{{.IPAddress}}{{end}}", "10.1.0.2"),
        ("{{with .State.Error}}{{.}}{{else}}fine{{end}}", "fine"),
        ("{{if .State.Running}}up{{else}}down{{end}}", "up"),
        ("{{if not .State.Running}}a{{else if eq .State.Pid 7 8}}b{{else}}c{{end}}", "b"),
        ("{{if and .State.Running (gt .State.Pid 6)}}yes{{end}}", "yes"),
        ("{{or .State.Error .Name}}", "/web"),
        ("{{len .List}} {{len .Name}} {{len .State}}", "2 4 3"),
        ("{{println .Name 1}}|", "/web 1\n|"),
        ("{{print 1 2 \"a\" 3}}", "1 2a3"),
        ("{{printf \"%s-%d-%q\" .Name .State.Pid `x`}}", "/web-7-\"x\""),
        ("{{printf \"%-6s|%6v|%03d%%\" .Name true .State.Pid}}", "/web  |  true|007%"),
        ("{{$x := .Name}}{{if true}}{{$x = \"y\"}}{{end}}{{$x}}{{$.State.Pid}}", "y7"),
        ("{{$x := 1}}{{if true}}{{$x := 2}}{{$x}}{{end}}{{$x}}", "21"),
        ("a {{- .Name -}} b{{/* {{.No}} */}}", "a/webb"),
        ("{{\"}}\"}}", "}}"),
        ("{{upper .Name}}{{lower `ABC`}}{{title `a bc`}}", "/WEBabcA Bc"),
        (
            "{{join (split \"a,b\" \",\") \"-\"}}{{truncate .Name 3}}{{pad .Name 1 2}}|{{slice .Name 1}}",
            "a-b/we /web  |web",
        ),
        ("{{lt 1 2}} {{ge 1 2}} {{ne \"a\" \"b\"}} {{le 2.5 2.5}} {{-1}}", "true false true true -1"),
    ];
    for (template, expected) in table {
        assert_eq!(render(template, &value()).as_deref(), Ok(expected), "{template}");
    }
    assert_eq!(render("{{json .}}", &value()), Ok(value().to_string()));
}

#[test]
fn what_makes_no_sense_is_refused() {
    let table = [
        ("{{range .List}}x", "template '{{range .List}}' has no '{{end}}': add it"),
        ("{{if .Name}}x{{else}}", "template '{{if .Name}}' has no '{{end}}': add it"),
        ("{{end}}", "template: '{{end}}' ends nothing: take it away"),
        ("{{}}", "template '{{}}' has a place where a value is missing"),
        ("{{.Name | }}", "template '{{.Name |}}' has a place where a value is missing"),
        ("{{.Name", "template '{{.Name' has a '{{' without '}}': close it"),
        ("{{(.Name}}", "template '{{(.Name}}' has a '(' without ')': close it"),
        ("{{.Name)}}", "template '{{.Name)}}' makes no sense at ): use {{.A.B}} or {{json .A.B}}"),
        ("{{\"a}}", "template '{{\"a}}' has a '{{' without '}}': close it"),
        ("{{.Nmae}}", "template '.Nmae' finds no 'Nmae': did you mean 'Name'?"),
        (
            "{{.Volumes}}",
            "template '.Volumes' finds no 'Volumes': there is Name, State, List, NetworkSettings",
        ),
        ("{{.Name.X}}", "template '.Name.X' finds no 'X': nothing is below it"),
        (
            "{{.State..Pid}}",
            "template '{{.State..Pid}}' makes no sense at .Pid: use {{.A.B}} or {{json .A.B}}",
        ),
        ("{{jsno .}}", "template: function 'jsno' is not known: did you mean 'json'?"),
        (
            "{{template \"x\"}}",
            "template '{{template \"x\"}}': 'template' is not supported: use if, with and range",
        ),
        ("{{$x}}", "template: variable '$x' is not known: give it a value first, as $x := .Name"),
        ("{{index .List 2}}", "template: index 2 is not in a list of 2"),
        ("{{range .Name}}{{end}}", "template: range goes through lists and maps, and '/web' is neither"),
        ("{{len .State.Pid}}", "template: len takes a text, a list or a map"),
        ("{{printf \"%d\" .Name}}", "template: printf's %d takes a whole number, not '/web'"),
        ("{{printf \"%x\" 1}}", "template: printf '%x': use %s, %v, %d, %q, %t and %%"),
        ("{{not}}", "template: not is given 0 arguments"),
        ("{{.Name 1}}", "template: a value that is no function is given arguments: write a function first"),
    ];
    for (template, expected) in table {
        assert_eq!(render(template, &value()), Err(bad(expected)), "{template}");
    }
}

#[test]
fn nothing_runs_for_ever_or_nests_too_deep() {
    let list = json!((0..1000).collect::<Vec<_>>());
    let nested = "{{range $}}".repeat(3) + "{{end}}{{end}}{{end}}";
    assert!(render(&nested, &list).unwrap_err().message.contains("1000000 steps"));
    let deep = "{{if true}}".repeat(10_000) + &"{{end}}".repeat(10_000);
    assert!(render(&deep, &list).unwrap_err().message.contains("deeper than 50"));
    let deep = format!("{{{{{}1{}}}}}", "(".repeat(10_000), ")".repeat(10_000));
    assert!(render(&deep, &list).unwrap_err().message.contains("deeper than 50"));
}

/// Pieces that templates are made of, in any order.
fn any_template() -> impl Strategy<Value = String> {
    let words = [
        "{{",
        "}}",
        "{{-",
        "-}}",
        " ",
        ".",
        ".Name",
        ".State.Pid",
        ".List",
        "$",
        "$x",
        ":=",
        "=",
        ",",
        "|",
        "(",
        ")",
        "range",
        "if",
        "else",
        "end",
        "with",
        "json",
        "index",
        "len",
        "printf",
        "println",
        "slice",
        "pad",
        "\"%5d\"",
        "\"",
        "`",
        "0",
        "-1",
        "1e9",
        "/*",
        "*/",
        "é",
        "{{end}}",
        "{{else}}",
        "{{range .List}}",
        "{{if .Name}}",
    ];
    proptest::collection::vec(proptest::sample::select(words.to_vec()), 0..30)
        .prop_map(|words| words.concat())
}

proptest! {
    #[test]
    fn any_text_is_run_or_refused_in_one_line(template in any_template(), noise in ".{0,40}") {
        for text in [template.clone(), noise.clone(), format!("{{{{{noise}}}}}"), format!("{template}{noise}")] {
            if let Err(refused) = render(&text, &value()) {
                prop_assert!(refused.message.starts_with("template"));
            }
        }
    }
}
