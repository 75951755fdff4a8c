//! Functions whose call can neither write, nor lock, nor change or read what belongs to one session on one server.
//!
//! A name is pure only when it is certain; everything else sends its statement to the primary and pins the session.
//! Sources: MariaDB knowledge base, "Built-in Functions"; MySQL 9.7 reference manual, "Built-In Function and Operator Reference".
//! Which names are free for stored functions was measured on MariaDB 10.11 and MySQL 9.7 (`tests/splitter_mysql.rs`).

/// Lower-case names, sorted, that every server takes for its own: no stored function can have them without its database in front.
/// Names that one server knows and another leaves to stored functions are in lists of their own. Session-local answers (CONNECTION_ID, FOUND_ROWS ...), locks, sequences, files, UDFs and
/// SLEEP-like side effects on replication (MASTER_POS_WAIT) are absent on purpose.
static PURE: &[&str] = &[
    "abs",
    "acos",
    "adddate",
    "addtime",
    "aes_decrypt",
    "aes_encrypt",
    "ascii",
    "asin",
    "atan",
    "atan2",
    "avg",
    "bin",
    "binary",
    "bit_and",
    "bit_count",
    "bit_length",
    "bit_or",
    "bit_xor",
    "cast",
    "ceil",
    "ceiling",
    "char",
    "char_length",
    "character_length",
    "charset",
    "coalesce",
    "coercibility",
    "collation",
    "compress",
    "concat",
    "concat_ws",
    "conv",
    "convert",
    "convert_tz",
    "cos",
    "cot",
    "count",
    "crc32",
    "cume_dist",
    "curdate",
    "current_date",
    "current_time",
    "current_timestamp",
    "curtime",
    "database",
    "date",
    "date_add",
    "date_format",
    "date_sub",
    "datediff",
    "datetime",
    "day",
    "dayname",
    "dayofmonth",
    "dayofweek",
    "dayofyear",
    "dec",
    "decimal",
    "degrees",
    "dense_rank",
    "double",
    "elt",
    "exp",
    "export_set",
    "extract",
    "extractvalue",
    "field",
    "find_in_set",
    "first_value",
    "float",
    "floor",
    "format",
    "from_base64",
    "from_days",
    "from_unixtime",
    "get_format",
    "greatest",
    "group_concat",
    "hex",
    "hour",
    "if",
    "ifnull",
    "inet6_aton",
    "inet6_ntoa",
    "inet_aton",
    "inet_ntoa",
    "insert",
    "instr",
    "int",
    "integer",
    "is_ipv4",
    "is_ipv6",
    "isnull",
    "json_array",
    "json_array_append",
    "json_array_insert",
    "json_arrayagg",
    "json_contains",
    "json_contains_path",
    "json_depth",
    "json_extract",
    "json_insert",
    "json_keys",
    "json_length",
    "json_merge",
    "json_merge_patch",
    "json_merge_preserve",
    "json_object",
    "json_objectagg",
    "json_overlaps",
    "json_pretty",
    "json_quote",
    "json_remove",
    "json_replace",
    "json_search",
    "json_set",
    "json_table",
    "json_type",
    "json_unquote",
    "json_valid",
    "json_value",
    "lag",
    "last_day",
    "last_value",
    "lcase",
    "lead",
    "least",
    "left",
    "length",
    "ln",
    "localtime",
    "localtimestamp",
    "locate",
    "log",
    "log10",
    "log2",
    "lower",
    "lpad",
    "ltrim",
    "make_set",
    "makedate",
    "maketime",
    "max",
    "microsecond",
    "mid",
    "min",
    "minute",
    "mod",
    "month",
    "monthname",
    "nchar",
    "now",
    "nth_value",
    "ntile",
    "nullif",
    "oct",
    "octet_length",
    "ord",
    "percent_rank",
    "period_add",
    "period_diff",
    "pi",
    "position",
    "pow",
    "power",
    "quarter",
    "quote",
    "radians",
    "rand",
    "rank",
    "regexp_instr",
    "regexp_replace",
    "regexp_substr",
    "repeat",
    "replace",
    "reverse",
    "right",
    "round",
    "row",
    "row_number",
    "rpad",
    "rtrim",
    "schema",
    "sec_to_time",
    "second",
    "sha2",
    "sign",
    "signed",
    "sin",
    "soundex",
    "space",
    "sqrt",
    "st_area",
    "st_asgeojson",
    "st_astext",
    "st_contains",
    "st_distance",
    "st_distance_sphere",
    "st_geomfromtext",
    "st_intersects",
    "st_within",
    "st_x",
    "st_y",
    "std",
    "stddev",
    "stddev_pop",
    "stddev_samp",
    "str_to_date",
    "strcmp",
    "subdate",
    "substr",
    "substring",
    "substring_index",
    "subtime",
    "sum",
    "sysdate",
    "tan",
    "time",
    "time_format",
    "time_to_sec",
    "timediff",
    "timestamp",
    "timestampadd",
    "timestampdiff",
    "to_base64",
    "to_days",
    "to_seconds",
    "trim",
    "truncate",
    "ucase",
    "uncompress",
    "uncompressed_length",
    "unhex",
    "unix_timestamp",
    "unsigned",
    "updatexml",
    "upper",
    "utc_date",
    "utc_time",
    "utc_timestamp",
    "var_pop",
    "var_samp",
    "varchar",
    "variance",
    "week",
    "weekday",
    "weekofyear",
    "weight_string",
    "year",
    "yearweek",
];

/// Pure on MariaDB alone: on MySQL a stored function may have the name.
static PURE_ON_MARIADB: &[&str] = &[
    "add_months",
    "chr",
    "column_get",
    "column_json",
    "crc32c",
    "decode",
    "encode",
    "geomfromtext",
    "json_compact",
    "json_detailed",
    "json_equals",
    "json_exists",
    "json_loose",
    "json_normalize",
    "json_query",
    "lengthb",
    "median",
    "natural_sort_key",
    "nvl",
    "nvl2",
    "percentile_cont",
    "percentile_disc",
    "sformat",
    "to_char",
];

/// Pure on MySQL since 8.0, and on MariaDB free for stored functions, at least in versions that are around.
static PURE_ON_MYSQL: &[&str] = &[
    "any_value",
    "bin_to_uuid",
    "format_bytes",
    "format_pico_time",
    "geomcollection",
    "geometrycollection",
    "grouping",
    "gtid_subset",
    "gtid_subtract",
    "is_ipv4_compat",
    "is_ipv4_mapped",
    "is_uuid",
    "json_schema_valid",
    "json_schema_validation_report",
    "json_storage_free",
    "json_storage_size",
    "linestring",
    "mbrcontains",
    "mbrcoveredby",
    "mbrcovers",
    "mbrdisjoint",
    "mbrequals",
    "mbrintersects",
    "mbroverlaps",
    "mbrtouches",
    "mbrwithin",
    "multilinestring",
    "multipoint",
    "multipolygon",
    "point",
    "polygon",
    "random_bytes",
    "regexp_like",
    "st_asbinary",
    "st_aswkb",
    "st_aswkt",
    "st_buffer",
    "st_buffer_strategy",
    "st_centroid",
    "st_convexhull",
    "st_crosses",
    "st_difference",
    "st_dimension",
    "st_disjoint",
    "st_endpoint",
    "st_envelope",
    "st_equals",
    "st_exteriorring",
    "st_frechetdistance",
    "st_geohash",
    "st_geometryfromtext",
    "st_geometryn",
    "st_geometrytype",
    "st_geomfromgeojson",
    "st_geomfromwkb",
    "st_hausdorffdistance",
    "st_interiorringn",
    "st_intersection",
    "st_isclosed",
    "st_isempty",
    "st_issimple",
    "st_isvalid",
    "st_latfromgeohash",
    "st_latitude",
    "st_length",
    "st_linefromtext",
    "st_linefromwkb",
    "st_linestringfromtext",
    "st_longfromgeohash",
    "st_longitude",
    "st_makeenvelope",
    "st_mlinefromtext",
    "st_mpointfromtext",
    "st_mpolyfromtext",
    "st_numgeometries",
    "st_numinteriorrings",
    "st_numpoints",
    "st_overlaps",
    "st_pointatdistance",
    "st_pointfromgeohash",
    "st_pointfromtext",
    "st_pointn",
    "st_polyfromtext",
    "st_polygonfromtext",
    "st_simplify",
    "st_srid",
    "st_startpoint",
    "st_swapxy",
    "st_symdifference",
    "st_touches",
    "st_transform",
    "st_union",
    "st_validate",
    "statement_digest",
    "statement_digest_text",
    "uuid_to_bin",
];

/// Pure everywhere but on MySQL since 9.6, which has them as a component or not at all.
static HASHES: &[&str] = &["md5", "sha", "sha1"];

/// Functions that are harmless but answer for one server or one account: they go to the primary, unpinned.
static LOCAL: &[&str] = &[
    "benchmark",
    "current_role",
    "current_user",
    "load_file",
    "session_user",
    "sleep",
    "system_user",
    "user",
    "uuid",
    "uuid_short",
    "version",
];

/// Keywords that may stand in front of `(` without calling anything. Those that may also name a stored function
/// (AGAINST, COLUMNS, PATH ...) are absent.
static KEYWORDS: &[&str] = &[
    "all",
    "and",
    "any",
    "as",
    "between",
    "by",
    "case",
    "cross",
    "distinct",
    "distinctrow",
    "div",
    "else",
    "except",
    "exists",
    "for",
    "force",
    "from",
    "group",
    "having",
    "ignore",
    "in",
    "index",
    "inner",
    "intersect",
    "interval",
    "is",
    "join",
    "key",
    "left",
    "like",
    "limit",
    "match",
    "mod",
    "natural",
    "not",
    "offset",
    "on",
    "or",
    "order",
    "outer",
    "over",
    "partition",
    "recursive",
    "regexp",
    "returning",
    "right",
    "rlike",
    "select",
    "set",
    "some",
    "straight_join",
    "table",
    "then",
    "union",
    "use",
    "using",
    "value",
    "values",
    "when",
    "where",
    "window",
    "with",
    "xor",
];

/// The same on MariaDB alone.
static KEYWORDS_OF_MARIADB: &[&str] = &["ignored", "within"];

/// The same on MySQL alone, since 8.0.
static KEYWORDS_OF_MYSQL: &[&str] = &["lateral", "of"];

/// Whose functions they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Flavour {
    /// Not known, or too old to be known: a name is a builtin function's only where every server has it.
    #[default]
    Unknown,
    /// MariaDB.
    MariaDb,
    /// MySQL 8.0 to 9.5.
    MySql,
    /// MySQL since 9.6: MD5(), SHA() and SHA1() may be anybody's.
    MySqlWithoutHashes,
}

impl Flavour {
    /// That of a server with this version string; `is_mariadb`: as its greeting says.
    pub fn of(version: &[u8], is_mariadb: bool) -> Flavour {
        if is_mariadb {
            return Flavour::MariaDb;
        }
        let mut numbers =
            version.split(|b| !b.is_ascii_digit()).map(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
        match (numbers.next().flatten(), numbers.next().flatten()) {
            (Some(major), Some(minor)) if (major, minor) >= (9, 6) => Flavour::MySqlWithoutHashes,
            (Some(8u32..), Some(0u32..)) => Flavour::MySql,
            _ => Flavour::Unknown,
        }
    }

    fn has_pure(self, lower: &str) -> bool {
        contains(PURE, lower)
            || match self {
                Flavour::Unknown => false,
                Flavour::MariaDb => contains(PURE_ON_MARIADB, lower) || contains(HASHES, lower),
                Flavour::MySql => contains(PURE_ON_MYSQL, lower) || contains(HASHES, lower),
                Flavour::MySqlWithoutHashes => contains(PURE_ON_MYSQL, lower),
            }
    }

    fn has_keyword(self, lower: &str) -> bool {
        contains(KEYWORDS, lower)
            || match self {
                Flavour::Unknown => false,
                Flavour::MariaDb => contains(KEYWORDS_OF_MARIADB, lower),
                Flavour::MySql | Flavour::MySqlWithoutHashes => contains(KEYWORDS_OF_MYSQL, lower),
            }
    }
}

/// Names that are builtin functions on a server of this kind and taken to be pure.
pub fn pure_names(flavour: Flavour) -> impl Iterator<Item = &'static str> {
    [PURE, PURE_ON_MARIADB, PURE_ON_MYSQL, HASHES]
        .into_iter()
        .flatten()
        .copied()
        .filter(move |name| flavour.has_pure(name))
}

/// What a word in front of `(` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Not a call.
    Keyword,
    /// Side-effect free, the same on every server.
    Pure,
    /// Side-effect free, but about one server.
    Local,
    /// Anything else.
    Unknown,
}

fn contains(list: &[&str], lower: &str) -> bool {
    list.binary_search(&lower).is_ok()
}

/// Looks a word up, in any case. `spaced`: white space lies between the word and `(`, which makes some built-in names
/// into calls of stored functions, unless `ignore_space`.
pub fn call(word: &[u8], spaced: bool, ignore_space: bool, flavour: Flavour) -> Call {
    let mut buffer = [0u8; WORD_BYTES_MAX];
    let Some(lower) = lower(word, &mut buffer) else { return Call::Unknown };
    if flavour.has_keyword(lower) {
        return Call::Keyword;
    }
    if spaced && !ignore_space {
        return Call::Unknown;
    }
    if flavour.has_pure(lower) {
        Call::Pure
    } else if contains(LOCAL, lower) {
        Call::Local
    } else {
        Call::Unknown
    }
}

/// Whether any server has a function or a keyword of this name.
pub(super) fn is_known(word: &[u8]) -> bool {
    let mut buffer = [0u8; WORD_BYTES_MAX];
    let lists = [KEYWORDS, KEYWORDS_OF_MARIADB, KEYWORDS_OF_MYSQL, PURE, PURE_ON_MARIADB, PURE_ON_MYSQL, HASHES, LOCAL];
    lower(word, &mut buffer).is_some_and(|lower| lists.iter().any(|list| contains(list, lower)))
}

/// No name in the lists is longer.
const WORD_BYTES_MAX: usize = 32;

fn lower<'a>(word: &[u8], buffer: &'a mut [u8; WORD_BYTES_MAX]) -> Option<&'a str> {
    let lower = buffer.get_mut(..word.len())?;
    lower.copy_from_slice(word);
    lower.make_ascii_lowercase();
    std::str::from_utf8(lower).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_are_sorted_and_apart() {
        let lists =
            [PURE, PURE_ON_MARIADB, PURE_ON_MYSQL, HASHES, LOCAL, KEYWORDS, KEYWORDS_OF_MARIADB, KEYWORDS_OF_MYSQL];
        for list in lists {
            assert!(list.windows(2).all(|w| w[0] < w[1]), "{:?}", list.windows(2).find(|w| w[0] >= w[1]));
            assert!(list.iter().all(|name| name.len() <= WORD_BYTES_MAX));
        }
        for list in [PURE_ON_MARIADB, PURE_ON_MYSQL, HASHES, LOCAL] {
            assert!(list.iter().all(|name| !contains(PURE, name)));
        }
        assert!(PURE_ON_MARIADB.iter().all(|name| !contains(PURE_ON_MYSQL, name)));
    }

    #[test]
    fn only_certain_names_are_pure() {
        let call = |word: &[u8], spaced, ignore_space| call(word, spaced, ignore_space, Flavour::Unknown);
        assert_eq!(call(b"COUNT", false, false), Call::Pure);
        assert_eq!(call(b"COUNT", true, false), Call::Unknown);
        assert_eq!(call(b"count", true, true), Call::Pure);
        assert_eq!(call(b"IN", true, false), Call::Keyword);
        for name in
            [&b"path"[..], b"COLUMNS", b"against", b"nested", b"escape", b"lateral", b"any_value", b"nvl", b"md5"]
        {
            assert_eq!(call(name, false, false), Call::Unknown, "servers let stored functions have this name");
        }
        for name in
            [&b"GET_LOCK"[..], b"nextval", b"setval", b"found_rows", b"my_function", b"master_gtid_wait", &[b'x'; 99]]
        {
            assert_eq!(call(name, false, true), Call::Unknown);
        }
        assert!(is_known(b"Nvl") && is_known(b"any_value") && is_known(b"LATERAL") && !is_known(b"my_function"));
    }

    #[test]
    fn a_name_is_pure_where_the_server_has_it_for_itself() {
        use Flavour::{MariaDb, MySql, MySqlWithoutHashes};
        for (name, pure) in [
            ("nvl", &[MariaDb][..]),
            ("within", &[MariaDb]),
            ("any_value", &[MySql, MySqlWithoutHashes]),
            ("lateral", &[MySql, MySqlWithoutHashes]),
            ("md5", &[MariaDb, MySql]),
            ("sha2", &[Flavour::Unknown, MariaDb, MySql, MySqlWithoutHashes]),
            ("wait_for_executed_gtid_set", &[]),
            ("release_all_locks", &[]),
        ] {
            for flavour in [Flavour::Unknown, MariaDb, MySql, MySqlWithoutHashes] {
                let is_known = call(name.as_bytes(), false, false, flavour) != Call::Unknown;
                assert_eq!(is_known, pure.contains(&flavour), "{name} {flavour:?}");
            }
        }
        assert_eq!(Flavour::of(b"10.11.19-MariaDB-log", true), MariaDb);
        for (version, flavour) in [
            ("8.0.45-0ubuntu0.24.04", MySql),
            ("8.4.8", MySql),
            ("9.5.0", MySql),
            ("9.6.0", MySqlWithoutHashes),
            ("9.7.4-2", MySqlWithoutHashes),
            ("10.0.0", MySqlWithoutHashes),
            ("5.7.44-log", Flavour::Unknown),
            ("8", Flavour::Unknown),
            ("scripted", Flavour::Unknown),
        ] {
            assert_eq!(Flavour::of(version.as_bytes(), false), flavour, "{version}");
        }
    }
}
