//! Where settings come from: flags, then the environment, then a `.env` file, then a TOML file, then the defaults.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::{
    health,
    settings::{KEYS, Key, Kind, Settings},
    token::{self, Request},
};

const PREFIX: &str = "SEALWIRE_";

const ABOUT: &str = "The sealwire signaling server: introduces devices to each other and is trusted with nothing.

Clients connect to /v1; /healthz, /readyz and /metrics can be read. Each setting below is also read from the environment \
(--max-rooms is SEALWIRE_MAX_ROOMS), from a .env file in the working directory, and from a TOML file (max_rooms = 7). \
What comes first in this order counts: flags, environment, .env, TOML file, default. Secrets have no flag.";

/// Values by the names of their keys, and where they were found.
#[derive(Default)]
struct Layer {
    source: String,
    values: BTreeMap<&'static str, String>,
}

/// What the program is to do.
pub(super) enum Task {
    Serve,
    Token(Request),
    Health,
}

/// Reads all sources, and what is to be done.
pub(super) fn load(args: impl IntoIterator<Item = OsString>) -> Result<(Settings, Task), String> {
    let matches = command().get_matches_from(args);
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let task = match matches.subcommand() {
        Some(("token", matches)) => Task::Token(token::read(matches)?),
        Some(_) => Task::Health,
        None => Task::Serve,
    };
    Ok((read(&matches, environment.collect())?, task))
}

fn command() -> Command {
    let flags = KEYS.iter().filter(|key| key.kind != Kind::Secret);
    Command::new("sealwire-server")
        .version(env!("CARGO_PKG_VERSION"))
        .about("The sealwire signaling server")
        .long_about(ABOUT)
        .max_term_width(120)
        .args(flags.map(flag))
        .arg(file_flag(
            "config",
            "A TOML file with settings; a key that is none is an error",
        ))
        .arg(file_flag(
            "env-file",
            "The .env file [default: .env, if it is there]",
        ))
        .after_help(secrets())
        .subcommand(token::command())
        .subcommand(health::command())
}

fn flag(key: &Key) -> Arg {
    let arg = Arg::new(key.name)
        .long(key.name)
        .value_name(key.value)
        .help(key.help)
        .global(key.name == "token-key-file");
    match key.kind {
        Kind::List => arg.action(ArgAction::Append),
        Kind::Switch => arg.num_args(0..=1).default_missing_value("true"),
        Kind::Value | Kind::Secret => arg,
    }
}

fn file_flag(name: &'static str, help: &'static str) -> Arg {
    let arg = Arg::new(name).long(name).value_name("FILE").help(help);
    arg.global(true)
}

fn secrets() -> String {
    let secrets = KEYS.iter().filter(|key| key.kind == Kind::Secret);
    let lines = secrets.map(|key| format!("  {PREFIX}{}\n          {}\n", capitals(key), key.help));
    format!("Without flags:\n{}", lines.collect::<String>())
}

/// Settings by all layers.
fn read(matches: &ArgMatches, environment: BTreeMap<String, String>) -> Result<Settings, String> {
    let mut settings = Settings::default();
    let dot_env = dot_env(matches, &environment)?;
    let config = path(matches, "config", &[&environment, &dot_env]);
    // RUST_LOG is what Rust programs are used to; it counts less than a setting of our own.
    if let Some(filter) = environment.get("RUST_LOG") {
        settings.log.clone_from(filter);
    }
    let layers = [
        from_flags(matches),
        from_variables("the environment", &environment, &mut settings.warnings),
        from_variables("the .env file", &dot_env, &mut settings.warnings),
        from_toml(config.as_deref())?,
    ];
    for key in KEYS {
        let mut found = layers.iter();
        let found = found.find_map(|layer| Some((layer, layer.values.get(key.name)?)));
        if let Some((layer, value)) = found {
            let set = (key.set)(&mut settings, value);
            set.map_err(|error| format!("{} in {}: {error}", key.name, layer.source))?;
        }
    }
    Ok(settings)
}

fn from_flags(matches: &ArgMatches) -> Layer {
    let given = KEYS.iter().filter_map(|key| {
        let values = matches.try_get_many::<String>(key.name).ok()??;
        let values: Vec<&str> = values.map(String::as_str).collect();
        Some((key.name, values.join(",")))
    });
    Layer {
        source: "the arguments".to_owned(),
        values: given.collect(),
    }
}

/// A name that nobody knows is a warning: other programs have variables too.
fn from_variables(
    source: &str,
    variables: &BTreeMap<String, String>,
    warnings: &mut Vec<String>,
) -> Layer {
    let mut layer = Layer {
        source: source.to_owned(),
        ..Layer::default()
    };
    for (name, value) in variables {
        let Some(name) = name.strip_prefix(PREFIX) else {
            continue;
        };
        if let Some(key) = KEYS.iter().find(|key| capitals(key) == name) {
            layer.values.insert(key.name, value.clone());
        } else if !["CONFIG", "ENV_FILE"].contains(&name) {
            warnings.push(format!("{PREFIX}{name} in {source} is no setting"));
        }
    }
    layer
}

fn from_toml(path: Option<&Path>) -> Result<Layer, String> {
    let Some(path) = path else {
        return Ok(Layer::default());
    };
    let about = |error: String| format!("{}: {error}", path.display());
    let text = fs::read_to_string(path).map_err(|error| about(error.to_string()))?;
    let table: toml::Table = text
        .parse()
        .map_err(|error: toml::de::Error| about(error.to_string()))?;
    let mut layer = Layer {
        source: path.display().to_string(),
        ..Layer::default()
    };
    for (name, value) in &table {
        let key = KEYS.iter().find(|key| key.name.replace('-', "_") == *name);
        let key = key.ok_or_else(|| about(format!("{name} is no setting")))?;
        let text = toml_text(value).ok_or_else(|| about(format!("{name} has no such value")))?;
        layer.values.insert(key.name, text);
    }
    Ok(layer)
}

/// A value as the other sources would have it.
fn toml_text(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(flag) => Some(flag.to_string()),
        toml::Value::Array(values) => {
            let texts: Option<Vec<String>> = values.iter().map(toml_text).collect();
            Some(texts?.join(","))
        }
        toml::Value::Float(_) | toml::Value::Datetime(_) | toml::Value::Table(_) => None,
    }
}

/// The variables in the `.env` file. One that was named has to be there.
fn dot_env(
    matches: &ArgMatches,
    environment: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, String> {
    let named = path(matches, "env-file", &[environment]);
    let path = named.clone().unwrap_or_else(|| PathBuf::from(".env"));
    match fs::read_to_string(&path) {
        Ok(text) => parse_dot_env(&text)
            .map_err(|line| format!("{}: line {line} is not NAME=value", path.display())),
        Err(error) if named.is_none() && error.kind() == io::ErrorKind::NotFound => {
            Ok(BTreeMap::new())
        }
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

/// `NAME=value` lines; `export` before and quotes around are left out, `#` begins a comment. The error is a line number.
fn parse_dot_env(text: &str) -> Result<BTreeMap<String, String>, usize> {
    let mut variables = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line);
        let (name, value) = line.split_once('=').ok_or(number + 1)?;
        let value = value.trim();
        let quoted = |quote| {
            value
                .strip_prefix(quote)
                .and_then(|rest| rest.split_once(quote))
        };
        let value = match quoted('"').or_else(|| quoted('\'')) {
            Some((value, _)) => value,
            None => value.split(" #").next().unwrap_or_default().trim_end(),
        };
        variables.insert(name.trim().to_owned(), value.to_owned());
    }
    Ok(variables)
}

/// A file named by a flag or a variable.
fn path(
    matches: &ArgMatches,
    name: &str,
    variables: &[&BTreeMap<String, String>],
) -> Option<PathBuf> {
    let flag = matches.get_one::<String>(name);
    let variable = format!("{PREFIX}{}", name.replace('-', "_").to_uppercase());
    let mut variables = variables.iter();
    let named = flag.or_else(|| variables.find_map(|variables| variables.get(&variable)));
    named.map(PathBuf::from)
}

fn capitals(key: &Key) -> String {
    key.name.replace('-', "_").to_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let pairs = pairs.iter();
        pairs
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn settings(args: &[&str], environment: &[(&str, &str)]) -> Result<Settings, String> {
        let args = ["sealwire-server"].iter().chain(args);
        let matches = command()
            .try_get_matches_from(args)
            .map_err(|error| error.to_string())?;
        read(&matches, variables(environment))
    }

    #[test]
    fn flags_win_over_the_environment_over_dot_env_over_the_file_over_defaults() {
        let folder = tempfile::tempdir().unwrap();
        let (toml, dot_env) = (folder.path().join("x.toml"), folder.path().join("env"));
        fs::write(
            &toml,
            "max_rooms = 1\nmax_members = 1\nmax_fragments = 1\njoin_burst = 1\n",
        )
        .unwrap();
        fs::write(
            &dot_env,
            "SEALWIRE_MAX_ROOMS=2\nSEALWIRE_MAX_MEMBERS=2\nSEALWIRE_MAX_FRAGMENTS=2\n",
        )
        .unwrap();
        let files = [
            "--config",
            toml.to_str().unwrap(),
            "--env-file",
            dot_env.to_str().unwrap(),
        ];
        let environment = [("SEALWIRE_MAX_ROOMS", "3"), ("SEALWIRE_MAX_MEMBERS", "3")];
        let args = [&files[..], &["--max-rooms", "4"]].concat();
        let limits = settings(&args, &environment).unwrap().limits;
        assert_eq!((limits.rooms, limits.members), (4, 3));
        assert_eq!((limits.fragments, limits.join_burst), (2, 1));
        assert_eq!(limits.queue, 256 << 10);
    }

    #[test]
    fn every_flag_is_a_variable_and_a_key_of_the_file_too() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.toml");
        fs::write(&file, "origins = [\"https://a.example\", \"https://b.example\"]\nlegacy = true\nping_interval = \"7s\"").unwrap();
        let by_file = settings(&["--config", file.to_str().unwrap()], &[]).unwrap();
        let by_flags = settings(
            &[
                "--origins",
                "https://a.example",
                "--origins",
                "https://b.example",
                "--legacy",
                "--ping-interval",
                "7",
            ],
            &[],
        );
        let by_variables = settings(
            &[],
            &[
                ("SEALWIRE_ORIGINS", "https://a.example, https://b.example"),
                ("SEALWIRE_LEGACY", "true"),
                ("SEALWIRE_PING_INTERVAL", "7000ms"),
            ],
        );
        for other in [by_flags, by_variables] {
            assert_eq!(format!("{:?}", other.unwrap()), format!("{by_file:?}"));
        }
    }

    #[test]
    fn what_is_no_setting_is_an_error_in_the_file_and_a_warning_in_the_environment() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.toml");
        for (text, error) in [
            ("max_roms = 7", "max_roms is no setting"),
            ("max_rooms = 1.5", "max_rooms has no such value"),
            ("max_rooms = \"many\"", "max-rooms in"),
            ("max_rooms", "x.toml"),
        ] {
            fs::write(&file, text).unwrap();
            let told = settings(&["--config", file.to_str().unwrap()], &[]).unwrap_err();
            assert!(told.contains(error), "{told}");
        }
        assert!(settings(&["--config", "/nowhere"], &[]).is_err());
        assert!(settings(&["--env-file", "/nowhere"], &[]).is_err());
        let settings = settings(&[], &[("SEALWIRE_MAX_ROMS", "7"), ("PATH", "x")]).unwrap();
        assert_eq!(settings.warnings.len(), 1);
    }

    #[test]
    fn dot_env_files_are_read_as_usual() {
        let text =
            "# comment\n\nA=1\nexport B = \"two words\" # more\nC='x#y'\nD=x # comment\nE=\n";
        let expected = [
            ("A", "1"),
            ("B", "two words"),
            ("C", "x#y"),
            ("D", "x"),
            ("E", ""),
        ];
        assert_eq!(parse_dot_env(text), Ok(variables(&expected)));
        assert_eq!(parse_dot_env("A=1\nB"), Err(2));
    }

    #[test]
    fn secrets_have_no_flag_and_everything_has_help() {
        command().debug_assert();
        let help = command().render_long_help().to_string();
        for key in KEYS {
            let flag = format!("--{} ", key.name);
            let has_flag = help.contains(&flag) || help.contains(&format!("--{}[", key.name));
            assert_eq!(
                has_flag || key.kind == Kind::Switch,
                key.kind != Kind::Secret,
                "{}",
                key.name
            );
            assert!(help.contains(&key.help[..20]), "{}", key.name);
        }
    }
}
