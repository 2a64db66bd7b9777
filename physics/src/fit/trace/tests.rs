use super::*;
use proptest::prelude::*;

fn read(text: &str) -> Result<Trace, TraceError> {
    Trace::read(Path::new("dir/t.csv"), text.as_bytes())
}

#[test]
fn the_machines_utilisation_is_every_cores() {
    let trace = read("seconds,utilisation,watts,celsius,mhz\n0,0.5,20,41,3000\n1.5, 1.004 ,30,,\n").unwrap();
    assert_eq!(trace.rows.len(), 2);
    assert_eq!(trace.rows[0].load.cores(4)[0], Cores { count: 4, utilisation: 0.5 });
    assert_eq!((trace.rows[0].celsius, trace.rows[0].clock), (Some(Celsius(41.0)), Some(Megahertz(3_000.0))));
    assert_eq!((trace.rows[1].load.clone(), trace.rows[1].celsius), (Load::Even(1.0), None));
    assert_eq!(trace.threads, None);
}

#[test]
fn active_cores_say_where_the_work_was() {
    let trace = read("seconds,utilisation,active_cores,watts\n0,0.5,2,20\n1,0,0,10\n").unwrap();
    let cores = trace.rows[0].load.cores(4);
    assert_eq!(cores, [Cores { count: 2, utilisation: 1.0 }, Cores { count: 2, utilisation: 0.0 }]);
    assert_eq!(trace.rows[1].load.cores(4)[1], Cores { count: 4, utilisation: 0.0 });
}

#[test]
fn single_cores_are_put_in_order_the_busiest_first() {
    let trace = read("\u{feff}Seconds,core1,core0,Watts,note\n# a comment\n0,0.25,0.75,20,x\n").unwrap();
    assert_eq!(trace.threads, Some(2));
    assert_eq!(trace.rows[0].load, Load::Each(vec![0.75, 0.25]));
    assert_eq!(trace.rows[0].load.cores(2)[0], Cores { count: 1, utilisation: 0.75 });
}

const CODECARBON: &str = "task_name,load_type,cpu_name,timestamp,cores_used,cpu_load,temperature,cpu_freq,rapl_power,rapl_energy,duration\n\
    a,all_cores,CPU X,100.0,4,0.5,0,1600,0.2,0.0000416666,30\n\
    b,all_cores,CPU X,130.0,4,50.0,0,0,5.0,0.0000833333,30\n\
    c,some_cores,CPU X,160.0,3,75.0,60,3000,10.0,0.0001666666,30\n";

#[test]
fn codecarbons_energy_is_of_the_row_and_its_power_of_the_row_before() {
    let trace = read(CODECARBON).unwrap();
    let watts: Vec<f64> = trace.rows.iter().map(|row| row.watts.0.round()).collect();
    assert_eq!(watts, [5.0, 10.0, 20.0]);
    assert_eq!((trace.threads, trace.machine.as_deref()), (Some(4), Some("CPU X")));
    assert_eq!(trace.rows[1].load, Load::Even(0.5));
    assert_eq!(trace.rows[2].load, Load::Full(3));
    assert_eq!((trace.rows[1].celsius, trace.rows[1].clock), (None, None), "0 is no sensor");
    assert!(trace.notes[0].contains("rapl_energy"), "{:?}", trace.notes);
}

#[test]
fn without_an_energy_column_an_absurd_first_row_is_dropped() {
    let trace = read(&CODECARBON.replace("rapl_energy", "other")).unwrap();
    let watts: Vec<f64> = trace.rows.iter().map(|row| row.watts.0).collect();
    assert_eq!(watts, [5.0, 10.0]);
    assert!(trace.notes[0].contains("first row was dropped"), "{:?}", trace.notes);
    let plausible = read(&CODECARBON.replace("rapl_energy", "other").replace(",0.2,", ",4.8,")).unwrap();
    assert_eq!(plausible.rows.len(), 3);
}

#[test]
fn wrong_files_are_refused_with_a_line_and_a_remedy() {
    let many = format!("seconds,{},watts\n", (0..5_000).map(|n| format!("core{n}")).collect::<Vec<_>>().join(","));
    let cases = [
        ("", "dir/t.csv: ", "the file is empty"),
        ("seconds,utilisation,watts\n", "dir/t.csv: ", "no rows"),
        ("seconds,utilisation,power\n0,0,1\n", "dir/t.csv: ", "no column `watts`"),
        ("0,0.5,20\n1,0.5,20\n", "dir/t.csv: ", "no column `seconds`"),
        ("seconds,watts\n0,1\n", "dir/t.csv: ", "`utilisation` or `core0`"),
        ("seconds,core0,core2,watts\n0,0,0,1\n", "dir/t.csv: ", "no column `core1`"),
        ("seconds,seconds,utilisation,watts\n0,0,0,1\n", "dir/t.csv:1: ", "two columns `seconds`"),
        ("seconds,utilisation,watts\n0,0,1\n1,0,many\n", "dir/t.csv:3: ", "`watts` is `many`, which is no number"),
        ("seconds,utilisation,watts\n0,0,\n", "dir/t.csv:2: ", "`watts` is empty"),
        ("seconds,utilisation,watts\n0,0,nan\n", "dir/t.csv:2: ", "`watts` is NaN: delete the row"),
        ("seconds,utilisation,watts\n0,0,inf\n", "dir/t.csv:2: ", "`watts` is inf: delete the row"),
        ("seconds,utilisation,watts\n0,0,-1\n", "dir/t.csv:2: ", "`watts` is -1, but must lie between 0 and 100000"),
        ("seconds,utilisation,watts\n0,0,1\n0,0,1\n", "dir/t.csv:3: ", "time goes from 0 to 0"),
        ("seconds,utilisation,watts\n5,0,1\n4,0,1\n", "dir/t.csv:3: ", "time goes from 5 to 4"),
        ("seconds,utilisation,watts\n0,45,1\n", "dir/t.csv:2: ", "divide percentages by 100"),
        ("seconds,core0,watts\n0,45,1\n", "dir/t.csv:2: ", "divide percentages by 100"),
        ("seconds,utilisation,active_cores,watts\n0,0.5,0,1\n", "dir/t.csv:2: ", "no active core"),
        ("seconds,utilisation,active_cores,watts\n0,0.5,1.5,1\n", "dir/t.csv:2: ", "whole number of cores"),
        ("seconds,utilisation,watts\n0,0,1\n1,0\n", "dir/t.csv:3: ", "2 fields, but the first has 3"),
        ("seconds,utilisation,watts,celsius\n0,0,1,900\n", "dir/t.csv:2: ", "`celsius` is 900"),
        (&CODECARBON.replace("some_cores", "few_cores"), "dir/t.csv:4: ", "load_type is `few_cores`"),
        (&CODECARBON.replace("50.0", "5000"), "dir/t.csv:3: ", "`cpu_load` is 5000"),
        (&CODECARBON.replace("timestamp", "time"), "dir/t.csv: ", "no column `timestamp`"),
        (&many, "dir/t.csv: ", "more than the 4096"),
    ];
    for (text, place, what) in cases {
        let error = read(text).expect_err(text).to_string();
        assert!(error.starts_with(place) && error.contains(what), "{error}\nwanted {place} … {what}");
    }
    let binary = Trace::read(Path::new("dir/t.csv"), &b"seconds,utilisation,watts\n0,\xff\xfe,1\n"[..]).unwrap_err();
    assert!(binary.to_string().contains("not text in UTF-8"), "{binary}");
    let missing = Trace::load(Path::new("/no/such.csv")).unwrap_err().to_string();
    assert!(missing.contains("/no/such.csv") && missing.contains("`seconds`"), "{missing}");
}

#[test]
fn what_is_no_text_is_refused_in_a_line() {
    let endless = Trace::read(Path::new("zero"), std::io::repeat(0)).unwrap_err().to_string();
    assert!(endless.contains("no CSV file") && endless.len() < 200, "{endless}");
    let long = format!("{}\n1\n", "x".repeat(100_000));
    let long = read(&long).unwrap_err().to_string();
    assert!(long.contains("no column `seconds`") && long.len() < 400, "{long}");
}

#[test]
fn a_file_without_end_is_refused_at_a_stated_bound() {
    // Ten gigabytes that take no room: the length is refused before anything is read.
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(10 << 30).unwrap();
    let error = Trace::load(file.path()).unwrap_err().to_string();
    assert!(error.contains("256 MiB") && error.contains("1000000 rows"), "{error}");

    /// Rows for ever: the number of the next line, and what is left of the one before.
    struct Endless(u64, Vec<u8>);
    impl Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            if self.1.is_empty() {
                let line =
                    if self.0 == 0 { "seconds,utilisation,watts\n".into() } else { format!("{},0.5,20\n", self.0) };
                (self.0, self.1) = (self.0 + 1, line.into_bytes());
            }
            let length = buffer.len().min(self.1.len());
            buffer[..length].copy_from_slice(&self.1[..length]);
            self.1.drain(..length);
            Ok(length)
        }
    }
    let error = Trace::read(Path::new("pipe"), Endless(0, Vec::new())).unwrap_err().to_string();
    assert!(error.starts_with("pipe:1000002: ") && error.contains("1000000 rows"), "{error}");
}

proptest! {
    #[test]
    fn a_mangled_trace_is_read_or_refused(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0usize..6, "[-0-9.,\"\nenaif#\u{0}]{0,4}"), 1..8)
    ) {
        let mut text: Vec<char> = CODECARBON.chars().collect();
        for (at, cut, insert) in edits {
            let at = at.index(text.len() + 1);
            let end = (at + cut).min(text.len());
            text.splice(at..end, insert.chars());
        }
        match read(&text.into_iter().collect::<String>()) {
            Ok(trace) => for row in &trace.rows {
                prop_assert!(row.seconds.is_finite() && row.watts.0.is_finite() && row.watts.0 >= 0.0);
                prop_assert!(row.load.cores(4).iter().all(|group| (0.0..=1.0).contains(&group.utilisation)));
            },
            Err(error) => prop_assert!(error.to_string().starts_with("dir/t.csv:")),
        }
    }
}
