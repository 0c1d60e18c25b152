<?php
// An ordinary PHP program that becomes real-time: cookie login, a checked chat, a push, and a push by header.

const DEVELOPMENT_SECRET = 'whsec_ZGV2ZWxvcG1lbnQgc2VjcmV0LCBub3QgZm9yIHVzZQ==';

/** Step 4: anything, anywhere in the program, reaches every browser. */
function push(string $channel, array $data): void
{
    $key = getenv('PUSH_KEY') ?: 'development-push-key';
    $request = ['http' => [
        'method' => 'POST',
        'header' => ["Authorization: Bearer $key", 'Content-Type: application/json'],
        'content' => json_encode(['channel' => $channel, 'data' => $data]),
        'timeout' => 5,
    ]];
    $api = getenv('OUTRIGGER_API') ?: 'http://127.0.0.1:8700';
    if (file_get_contents("$api/push", false, stream_context_create($request)) === false) {
        throw new RuntimeException('the push was not taken');
    }
}

/** Standard Webhooks: HMAC-SHA256 over id.timestamp.body; nothing older than five minutes. */
function is_signed(string $body): bool
{
    $id = $_SERVER['HTTP_WEBHOOK_ID'] ?? '';
    $timestamp = $_SERVER['HTTP_WEBHOOK_TIMESTAMP'] ?? '';
    if (!ctype_digit($timestamp) || abs(time() - (int) $timestamp) > 300) {
        return false;
    }
    $secret = getenv('WEBHOOK_SECRET') ?: DEVELOPMENT_SECRET;
    $key = base64_decode(preg_replace('/^whsec_/', '', $secret));
    $ours = 'v1,' . base64_encode(hash_hmac('sha256', "$id.$timestamp.$body", $key, true));
    foreach (explode(' ', $_SERVER['HTTP_WEBHOOK_SIGNATURE'] ?? '') as $given) {
        if (hash_equals($ours, $given)) {
            return true;
        }
    }
    return false;
}

/** Step 3: answer Outrigger's questions. 2xx without a body is a yes. Notices, such as disconnect, only want the 2xx. */
function realtime(array $question, ?string $user): void
{
    if ($question['type'] === 'connect' && $user !== null) {
        reply(200, ['userId' => $user]);
    } elseif ($question['type'] === 'publish') {
        $text = iconv_substr(trim((string) ($question['data']['text'] ?? '')), 0, 280, 'UTF-8');
        if ($user === null || $text === '') {
            reply(403, ['error' => ['code' => 'not_now', 'message' => 'Log in, and say something.']]);
        } else {
            reply(200, ['data' => ['from' => $user, 'text' => $text]]);
        }
    } else {
        if ($question['type'] === 'disconnect') {
            error_log(($question['connection']['userId'] ?? 'somebody') . " left: {$question['reason']}");
        }
        reply(200);
    }
}

function reply(int $status, ?array $body = null): void
{
    http_response_code($status);
    header('Content-Type: application/json');
    echo $body === null ? '' : json_encode($body);
}

session_set_cookie_params(['httponly' => true, 'samesite' => 'Lax']);
$is_login = $_SERVER['REQUEST_URI'] === '/login';
if ($is_login || isset($_COOKIE[session_name()])) {
    session_start(['read_and_close' => !$is_login]);
}
$user = $_SESSION['user'] ?? null; // in a webhook too: the browser's own cookie comes along

switch ($_SERVER['REQUEST_METHOD'] . ' ' . $_SERVER['REQUEST_URI']) {
    case 'GET /':
        readfile(__DIR__ . '/page.html');
        break;
    case 'POST /webhooks/realtime':
        $body = file_get_contents('php://input');
        is_signed($body) ? realtime(json_decode($body, true), $user) : reply(400);
        break;
    case 'POST /login':
        session_regenerate_id(true);
        $_SESSION['user'] = iconv_substr(trim($_POST['name'] ?? ''), 0, 24, 'UTF-8') ?: null;
        reply(204);
        break;
    case 'POST /orders':
        // One header, no HTTP client: what this reply says goes to everybody who follows `orders`.
        header('Outrigger-Push: "orders";event="created"');
        reply(201, ['item' => $_POST['item'] ?? 'oar', 'by' => $user ?? 'somebody']);
        break;
    case 'POST /announce':
        if ($user === null) {
            reply(401);
            break;
        }
        push('room.lobby', ['from' => 'the backend', 'text' => iconv_substr($_POST['text'] ?? '', 0, 280, 'UTF-8')]);
        reply(204);
        break;
    default:
        reply(404);
}
