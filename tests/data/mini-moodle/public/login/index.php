<?php
declare(strict_types=1);
require __DIR__ . '/../../config.php';

if ($_SERVER['REQUEST_METHOD'] === 'POST') {
    $hash = $DB->read('SELECT password FROM {user} WHERE username = ?', [$_POST['username'] ?? ''])[0]['password'] ?? '';
    if (!password_verify($_POST['password'] ?? '', $hash)) {
        http_response_code(403);
        echo "wrong name or password\n";
        exit;
    }
    session_regenerate_id(true);
    $_SESSION['user'] = $_POST['username'];
    header("Location: {$CFG->wwwroot}/my/", true, 303);
    exit;
}
echo 'log in, please, at ', gethostname(), "\n";
