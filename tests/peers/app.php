<?php
// The application of tests/real_servers.rs for PHP's built-in server: `php -S ADDRESS app.php`.

// The same bytes as `support::pattern`: the highest byte of a 64-bit product, which is kept in two halves of 32 bits.
function pattern(int $length): string
{
    $bytes = str_repeat("\0", $length);
    [$high, $low] = [0, 0];
    for ($at = 0; $at < $length; $at++) {
        $bytes[$at] = chr($high >> 24);
        $low += 0x7f4a7c15;
        $high = ($high + 0x9e3779b9 + ($low >> 32)) & 0xffffffff;
        $low &= 0xffffffff;
    }
    return $bytes;
}

while (ob_get_level() > 0) {
    ob_end_flush();
}
$number = fn(string $name): int => (int) ($_GET[$name] ?? 0);

switch (parse_url($_SERVER["REQUEST_URI"], PHP_URL_PATH)) {
    case "/echo":
        $content = file_get_contents("php://input");
        header("X-Method: " . $_SERVER["REQUEST_METHOD"]);
        header("X-Query: " . (isset($_SERVER["QUERY_STRING"]) ? "?" . $_SERVER["QUERY_STRING"] : ""));
        header("X-Framing: " . (isset($_SERVER["HTTP_TRANSFER_ENCODING"]) ? "chunked" : $_SERVER["CONTENT_LENGTH"] ?? "none"));
        header("Content-Length: " . strlen($content));
        echo $content;
        break;
    case "/fields":
        foreach (getallheaders() as $name => $value) {
            echo strtolower($name), ": ", $value, "\n";
        }
        break;
    case "/status":
        http_response_code($number("code"));
        header("X-Said: so");
        break;
    case "/big":
        echo pattern($number("bytes"));
        break;
    case "/digest":
        $content = file_get_contents("php://input");
        echo strlen($content), " ", hash("sha256", $content);
        break;
    case "/stream":
        for ($at = 0; $at < $number("pieces"); $at++) {
            if ($at > 0) {
                usleep(1000 * $number("pause"));
            }
            echo "piece $at\n";
            flush();
        }
        break;
    case "/slow":
        usleep(1000 * $number("ms"));
        echo "late";
        break;
    case "/until-close":
        echo "no length, ";
        flush();
        usleep(50000);
        echo "to the end";
        break;
    default:
        http_response_code(404);
        echo "no such page";
}
