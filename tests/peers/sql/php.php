<?php
// The work of tests/splitter_drivers.rs with mysqli or PDO: `php php.php mysqli|pdo HOST PORT USER PASSWORD [ca=FILE]
// [compress]`. Prints what it saw.
[, $kind, $host, $port, $user, $password] = $argv;
$options = array_slice($argv, 6);
$compress = in_array('compress', $options);
$ca = null;
foreach ($options as $option) {
    if (str_starts_with($option, 'ca=')) {
        $ca = substr($option, 3);
    }
}
mysqli_report(MYSQLI_REPORT_ERROR | MYSQLI_REPORT_STRICT);

function say(...$what) {
    echo implode(' ', array_map(fn($part) => is_string($part) && !preg_match('//u', $part) ? bin2hex($part) : json_encode($part, JSON_UNESCAPED_UNICODE), $what)), "\n";
}

const TABLE = "CREATE TABLE people (id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(50) UNIQUE, born DATE, seen DATETIME(6),
    amount DECIMAL(20,6), data LONGBLOB, note TEXT, big BIGINT UNSIGNED, ratio DOUBLE) CHARACTER SET utf8mb4";
const INSERT = 'INSERT INTO people (name, born, seen, amount, data, note, big, ratio) VALUES (?,?,?,?,?,?,?,?)';
$rows = [
    ['Zoë 💡', '2001-02-03', '2024-02-29 23:59:59.123456', '12345678901234.123456', implode(array_map('chr', range(0, 255))), null, '18446744073709551615', 0.1],
    ["日本'\"\\", null, null, null, '', '', 0, -1e300],
    ['null', '1000-01-01', '9999-12-31 00:00:00', '-0.000001', null, '? -- ;', 1, 0.0],
];
$bad = ["INSERT INTO people (name) VALUES ('null')", 'SELECT * FROM nowhere', 'SELEKT 1', "INSERT INTO people (born) VALUES ('not a date')", 'CALL fails()'];

if ($kind === 'mysqli') {
    $db = mysqli_init();
    $db->options(MYSQLI_OPT_INT_AND_FLOAT_NATIVE, 1);
    if ($ca) {
        $db->ssl_set(null, null, $ca, null, null);
    }
    $db->real_connect($host, $user, $password, 'd', (int)$port, null, ($compress ? MYSQLI_CLIENT_COMPRESS : 0) | ($ca ? MYSQLI_CLIENT_SSL : 0));
    $db->set_charset('utf8mb4');
    $db->query('DROP TABLE IF EXISTS people');
    $db->query(TABLE);
    $statement = $db->prepare(INSERT);
    foreach ($rows as $row) {
        $blob = null;
        $statement->bind_param('ssssbssd', $row[0], $row[1], $row[2], $row[3], $blob, $row[5], $row[6], $row[7]);
        if ($row[4] !== null) {
            $statement->send_long_data(4, $row[4]);
        }
        $statement->execute();
        say($statement->insert_id, $statement->affected_rows);
    }
    $statement->close();
    $result = $db->query('SELECT * FROM people ORDER BY id');
    foreach ($result->fetch_fields() as $field) {
        say($field->name, $field->orgtable, $field->type, $field->length, $field->flags, $field->charsetnr, $field->decimals);
    }
    foreach ($result as $row) {
        say(...array_values($row));
    }
    $statement = $db->prepare('SELECT id, name, ratio, big FROM people WHERE id >= ? ORDER BY id');
    foreach ([1, 2, 3] as $id) {
        $statement->bind_param('i', $id);
        $statement->execute();
        say($statement->get_result()->fetch_all());
    }
    $statement->close();
    // A cursor: rows come by COM_STMT_FETCH.
    $statement = $db->stmt_init();
    $statement->prepare('SELECT id, name FROM people ORDER BY id');
    $statement->attr_set(MYSQLI_STMT_ATTR_CURSOR_TYPE, MYSQLI_CURSOR_TYPE_READ_ONLY);
    $statement->execute();
    $statement->bind_result($id, $name);
    while ($statement->fetch()) {
        say($id, $name);
    }
    $statement->close();
    $db->begin_transaction();
    $db->query("INSERT INTO people (name) VALUES ('rolled back')");
    say($db->insert_id);
    $db->rollback();
    $db->begin_transaction(MYSQLI_TRANS_START_READ_ONLY);
    say($db->query('SELECT COUNT(*) FROM people')->fetch_row());
    $db->commit();
    $db->autocommit(false);
    $db->query("DELETE FROM people WHERE name = 'null'");
    $db->rollback();
    $db->autocommit(true);
    say($db->query('SELECT COUNT(*) FROM people')->fetch_row());
    foreach ($bad as $sql) {
        try {
            $db->query($sql);
            say('no error');
        } catch (mysqli_sql_exception $error) {
            say($error->getCode(), $error->getSqlState(), $error->getMessage());
        }
        while ($db->more_results()) {
            try {
                $db->next_result();
            } catch (mysqli_sql_exception $error) {
                say($error->getCode());
            }
        }
    }
    $db->multi_query("SELECT 1; INSERT INTO people (name) VALUES ('multi'); SELECT LAST_INSERT_ID(); SELECT * FROM nowhere");
    try {
        do {
            $result = $db->store_result();
            say($result ? $result->fetch_all() : [$db->affected_rows, $db->insert_id]);
        } while ($db->next_result());
    } catch (mysqli_sql_exception $error) {
        say($error->getCode());
    }
    $db->multi_query('CALL two_results(2)');
    do {
        $result = $db->store_result();
        say($result ? $result->fetch_all() : 'done');
    } while ($db->next_result());
    $db->query("SELECT CAST('1x' AS INT)");
    say($db->warning_count, $db->query('SHOW WARNINGS')->fetch_all());
    say($db->ping(), $db->info);
    $db->select_db('e');
    say($db->query('SELECT DATABASE()')->fetch_row());
    $db->change_user($user, $password, 'd');
    say($db->query('SELECT DATABASE(), @@autocommit')->fetch_row());
    $db->close();
    exit;
}

$settings = [PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION, PDO::MYSQL_ATTR_COMPRESS => $compress, PDO::ATTR_EMULATE_PREPARES => false];
if ($ca) {
    $settings[PDO::MYSQL_ATTR_SSL_CA] = $ca;
}
foreach ([false, true] as $emulated) {
    $settings[PDO::ATTR_EMULATE_PREPARES] = $emulated;
    $db = new PDO("mysql:host=$host;port=$port;dbname=d;charset=utf8mb4", $user, $password, $settings);
    $db->exec('DROP TABLE IF EXISTS people');
    $db->exec(TABLE);
    $statement = $db->prepare(INSERT);
    foreach ($rows as $row) {
        $statement->execute($row);
        say($db->lastInsertId(), $statement->rowCount());
    }
    $result = $db->query('SELECT * FROM people ORDER BY id', PDO::FETCH_NUM);
    for ($n = 0; $n < $result->columnCount(); $n++) {
        say($result->getColumnMeta($n));
    }
    foreach ($result as $row) {
        say(...$row);
    }
    $statement = $db->prepare('SELECT id, name FROM people WHERE name LIKE :pattern OR id = :id ORDER BY id');
    foreach (['%o%', 'null', 'none'] as $pattern) {
        $statement->execute(['pattern' => $pattern, 'id' => 2]);
        say($statement->fetchAll(PDO::FETCH_NUM));
    }
    $db->beginTransaction();
    $db->exec("INSERT INTO people (name) VALUES ('rolled back')");
    say($db->lastInsertId());
    $db->rollBack();
    $db->beginTransaction();
    say($db->exec("UPDATE people SET note = 'kept'"));
    $db->commit();
    say($db->query("SELECT COUNT(*), SUM(note = 'kept') FROM people")->fetch(PDO::FETCH_NUM));
    foreach ($bad as $sql) {
        try {
            $statement = $db->query($sql);
            say('no error');
        } catch (PDOException $error) {
            say($error->errorInfo);
        }
    }
    $statement = $db->query('CALL two_results(2)');
    do {
        if ($statement->columnCount()) {
            say($statement->fetchAll(PDO::FETCH_NUM));
        }
    } while ($statement->nextRowset());
    $statement = null;
    $db->setAttribute(PDO::MYSQL_ATTR_USE_BUFFERED_QUERY, false);
    $statement = $db->query('SELECT seq FROM seq_1_to_3000');
    say(array_sum($statement->fetchAll(PDO::FETCH_COLUMN)));
    $statement = null;
    $db = null;
}
