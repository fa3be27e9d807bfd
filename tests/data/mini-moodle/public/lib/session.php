<?php
declare(strict_types=1);

function start_session(stdClass $cfg): void
{
    $cfg->session_handler_class === '\core\session\redis' || throw new Exception('sessions must be in Redis');
    ini_set('session.save_handler', 'redis');
    ini_set('session.save_path', "tcp://{$cfg->session_redis_host}:{$cfg->session_redis_port}?" . http_build_query([
        'auth' => $cfg->session_redis_auth,
        'prefix' => $cfg->session_redis_prefix,
    ]));
    session_name('MoodleSession');
    session_start(['cookie_secure' => $cfg->sslproxy, 'cookie_httponly' => true]);
}
