//! Functions whose call can neither write, nor lock, nor change or read what belongs to one session on one server.
//!
//! A name is pure only when it is certain; everything else sends its statement to the primary and pins the session.
//! Source: MariaDB knowledge base, "Built-in Functions".

/// Lower-case names, sorted. Session-local answers (CONNECTION_ID, FOUND_ROWS ...), locks, sequences, files, UDFs and
/// SLEEP-like side effects on replication (MASTER_POS_WAIT) are absent on purpose.
static PURE: &[&str] = &[
    "abs", "acos", "add_months", "adddate", "addtime", "aes_decrypt", "aes_encrypt", "any_value", "ascii", "asin",
    "atan", "atan2", "avg", "bin", "binary", "bit_and", "bit_count", "bit_length", "bit_or", "bit_xor", "cast", "ceil",
    "ceiling", "char", "char_length", "character_length", "charset", "chr", "coalesce", "coercibility", "collation",
    "column_get", "column_json", "compress", "concat", "concat_ws", "conv", "convert", "convert_tz", "cos", "cot",
    "count", "crc32", "crc32c", "cume_dist", "curdate", "current_date", "current_time", "current_timestamp", "curtime",
    "database", "date", "date_add", "date_format", "date_sub", "datediff", "datetime", "day", "dayname", "dayofmonth",
    "dayofweek", "dayofyear", "dec", "decimal", "decode", "degrees", "dense_rank", "double", "elt", "encode", "exp",
    "export_set", "extract", "extractvalue", "field", "find_in_set", "first_value", "float", "floor", "format",
    "format_bytes", "from_base64", "from_days", "from_unixtime", "geomfromtext", "get_format", "greatest",
    "group_concat", "hex", "hour", "if", "ifnull", "inet6_aton", "inet6_ntoa", "inet_aton", "inet_ntoa", "insert",
    "instr", "int", "integer", "is_ipv4", "is_ipv6", "isnull", "json_array", "json_array_append", "json_array_insert",
    "json_arrayagg", "json_compact", "json_contains", "json_contains_path", "json_depth", "json_detailed",
    "json_equals", "json_exists", "json_extract", "json_insert", "json_keys", "json_length", "json_loose", "json_merge",
    "json_merge_patch", "json_merge_preserve", "json_normalize", "json_object", "json_objectagg", "json_overlaps",
    "json_pretty", "json_query", "json_quote", "json_remove", "json_replace", "json_search", "json_set", "json_table",
    "json_type", "json_unquote", "json_valid", "json_value", "lag", "last_day", "last_value", "lcase", "lead", "least",
    "left", "length", "lengthb", "ln", "localtime", "localtimestamp", "locate", "log", "log10", "log2", "lower", "lpad",
    "ltrim", "make_set", "makedate", "maketime", "max", "md5", "median", "microsecond", "mid", "min", "minute", "mod",
    "month", "monthname", "natural_sort_key", "nchar", "now", "nth_value", "ntile", "nullif", "nvl", "nvl2", "oct",
    "octet_length", "ord", "percent_rank", "percentile_cont", "percentile_disc", "period_add", "period_diff", "pi",
    "position", "pow", "power", "quarter", "quote", "radians", "rand", "rank", "regexp_instr", "regexp_like",
    "regexp_replace", "regexp_substr", "repeat", "replace", "reverse", "right", "round", "row", "row_number", "rpad",
    "rtrim", "schema", "sec_to_time", "second", "sformat", "sha", "sha1", "sha2", "sign", "signed", "sin", "soundex",
    "space", "sqrt", "st_area", "st_asgeojson", "st_astext", "st_contains", "st_distance", "st_distance_sphere",
    "st_geomfromtext", "st_intersects", "st_within", "st_x", "st_y", "std", "stddev", "stddev_pop", "stddev_samp",
    "str_to_date", "strcmp", "subdate", "substr", "substring", "substring_index", "subtime", "sum", "sysdate", "tan",
    "time", "time_format", "time_to_sec", "timediff", "timestamp", "timestampadd", "timestampdiff", "to_base64",
    "to_char", "to_days", "to_seconds", "trim", "truncate", "ucase", "uncompress", "uncompressed_length", "unhex",
    "unix_timestamp", "unsigned", "updatexml", "upper", "utc_date", "utc_time", "utc_timestamp", "var_pop", "var_samp",
    "varchar", "variance", "week", "weekday", "weekofyear", "weight_string", "year", "yearweek",
];

/// Functions that are harmless but answer for one server or one account: they go to the primary, unpinned.
static LOCAL: &[&str] = &[
    "benchmark", "current_role", "current_user", "load_file", "session_user", "sleep", "system_user", "user", "uuid",
    "uuid_short", "version",
];

/// Keywords that may stand in front of `(` without calling anything.
static KEYWORDS: &[&str] = &[
    "against", "all", "and", "any", "as", "between", "by", "case", "columns", "cross", "distinct", "distinctrow", "div",
    "else", "escape", "except", "exists", "for", "force", "from", "group", "having", "ignore", "ignored", "in", "index",
    "inner", "intersect", "interval", "is", "join", "key", "lateral", "left", "like", "limit", "match", "mod",
    "natural", "nested", "not", "offset", "on", "or", "order", "outer", "over", "partition", "path", "recursive",
    "regexp", "returning", "right", "rlike", "select", "set", "some", "straight_join", "table", "then", "union", "use",
    "using", "value", "values", "when", "where", "window", "with", "within", "xor",
];

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
pub fn call(word: &[u8], spaced: bool, ignore_space: bool) -> Call {
    let mut buffer = [0u8; 24];
    let Some(lower) = buffer.get_mut(..word.len()) else { return Call::Unknown };
    lower.copy_from_slice(word);
    lower.make_ascii_lowercase();
    let Ok(lower) = std::str::from_utf8(lower) else { return Call::Unknown };
    if contains(KEYWORDS, lower) {
        return Call::Keyword;
    }
    if spaced && !ignore_space {
        return Call::Unknown;
    }
    if contains(PURE, lower) {
        Call::Pure
    } else if contains(LOCAL, lower) {
        Call::Local
    } else {
        Call::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_are_sorted_and_apart() {
        for list in [PURE, LOCAL, KEYWORDS] {
            assert!(list.windows(2).all(|w| w[0] < w[1]), "{:?}", list.windows(2).find(|w| w[0] >= w[1]));
        }
        assert!(LOCAL.iter().all(|name| !contains(PURE, name)));
    }

    #[test]
    fn only_certain_names_are_pure() {
        assert_eq!(call(b"COUNT", false, false), Call::Pure);
        assert_eq!(call(b"COUNT", true, false), Call::Unknown);
        assert_eq!(call(b"count", true, true), Call::Pure);
        assert_eq!(call(b"IN", true, false), Call::Keyword);
        for name in [&b"GET_LOCK"[..], b"nextval", b"setval", b"found_rows", b"my_function", b"master_gtid_wait", &[b'x'; 99]] {
            assert_eq!(call(name, false, true), Call::Unknown);
        }
    }
}
