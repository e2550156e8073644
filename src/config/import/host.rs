//! The hosts whose agents can be imported.

use super::file_format::FileFormat;
use super::formats::claude::{CLAUDE_CODE, CLAUDE_DESKTOP};
use super::formats::cline::CLINE;
use super::formats::codex::CODEX;
use super::formats::common::COMMON;
use super::formats::continue_dev::CONTINUE;
use super::formats::copilot::COPILOT;
use super::formats::crush::CRUSH;
use super::formats::cursor::CURSOR;
use super::formats::gemini::GEMINI;
use super::formats::goose::GOOSE;
use super::formats::opencode::OPENCODE;
use super::formats::vscode::VSCODE;
use super::formats::windsurf::WINDSURF;
use super::formats::zed::ZED;

/// A host whose agents can be imported.
#[derive(Debug)]
pub struct McpHost {
    /// The name on the command line.
    pub name: &'static str,
    /// The name for people.
    pub title: &'static str,
    /// The format of its files.
    pub(super) format: &'static FileFormat,
    /// The files of a user. `~` is the home directory, `$NAME` a variable, and `$CONFIG` the directory of the system for
    /// configuration.
    pub(super) user_files: &'static [(On, &'static str)],
    /// The files in a project.
    pub(super) project_files: &'static [&'static str],
}

/// The systems on which a file has a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum On {
    /// All systems.
    All,
    /// All but Windows.
    Unix,
    /// Linux.
    Linux,
    /// macOS.
    Mac,
    /// Windows.
    Windows,
}

impl McpHost {
    /// Returns the host with this name.
    pub fn find(name: &str) -> Option<&'static Self> {
        HOSTS.iter().find(|host| host.name == name)
    }
}

/// All hosts, by name.
pub static HOSTS: &[McpHost] = &[
    McpHost {
        name: "antigravity",
        title: "Antigravity",
        format: &WINDSURF,
        user_files: &[(On::All, "~/.gemini/antigravity/mcp_config.json")],
        project_files: &[],
    },
    McpHost {
        name: "claude",
        title: "Claude Code",
        format: &CLAUDE_CODE,
        user_files: &[(On::All, "$CLAUDE_CONFIG_DIR/.claude.json"), (On::All, "~/.claude.json")],
        project_files: &[".mcp.json"],
    },
    McpHost {
        name: "claude-desktop",
        title: "Claude Desktop",
        format: &CLAUDE_DESKTOP,
        user_files: &[
            (On::All, "$CONFIG/Claude/claude_desktop_config.json"),
            (On::Linux, "$CONFIG/claude/claude_desktop_config.json"),
        ],
        project_files: &[],
    },
    McpHost {
        name: "cline",
        title: "Cline",
        format: &CLINE,
        user_files: &[(
            On::All,
            "$CONFIG/Code/User/globalStorage/saoudrizwan.claude-dev/settings/cline_mcp_settings.json",
        )],
        project_files: &[],
    },
    McpHost {
        name: "codex",
        title: "Codex",
        format: &CODEX,
        user_files: &[(On::All, "$CODEX_HOME/config.toml"), (On::All, "~/.codex/config.toml")],
        project_files: &[".codex/config.toml"],
    },
    McpHost {
        name: "continue",
        title: "Continue",
        format: &CONTINUE,
        user_files: &[(On::All, "~/.continue/config.yaml")],
        project_files: &[".continue/mcpServers/*"],
    },
    McpHost {
        name: "copilot-cli",
        title: "GitHub Copilot CLI",
        format: &COPILOT,
        user_files: &[(On::All, "~/.copilot/mcp-config.json")],
        project_files: &[".vscode/mcp.json"],
    },
    McpHost {
        name: "crush",
        title: "Crush",
        format: &CRUSH,
        user_files: &[(On::Unix, "~/.config/crush/crush.json"), (On::Windows, "$LOCALAPPDATA/crush/crush.json")],
        project_files: &[".crush.json", "crush.json"],
    },
    McpHost {
        name: "cursor",
        title: "Cursor",
        format: &CURSOR,
        user_files: &[(On::All, "~/.cursor/mcp.json")],
        project_files: &[".cursor/mcp.json"],
    },
    McpHost {
        name: "gemini",
        title: "Gemini CLI",
        format: &GEMINI,
        user_files: &[(On::All, "~/.gemini/settings.json")],
        project_files: &[".gemini/settings.json"],
    },
    McpHost {
        name: "goose",
        title: "goose",
        format: &GOOSE,
        user_files: &[
            (On::Unix, "~/.config/goose/config.yaml"),
            (On::Windows, "$APPDATA/Block/goose/config/config.yaml"),
        ],
        project_files: &[],
    },
    McpHost {
        name: "kiro",
        title: "Kiro",
        format: &COMMON,
        user_files: &[(On::All, "~/.kiro/settings/mcp.json")],
        project_files: &[".kiro/settings/mcp.json"],
    },
    McpHost {
        name: "lmstudio",
        title: "LM Studio",
        format: &COMMON,
        user_files: &[(On::All, "~/.lmstudio/mcp.json"), (On::All, "~/.cache/lm-studio/mcp.json")],
        project_files: &[],
    },
    McpHost {
        name: "opencode",
        title: "OpenCode",
        format: &OPENCODE,
        user_files: &[(On::All, "~/.config/opencode/opencode.json"), (On::All, "~/.config/opencode/opencode.jsonc")],
        project_files: &["opencode.json", "opencode.jsonc"],
    },
    McpHost {
        name: "vscode",
        title: "Visual Studio Code",
        format: &VSCODE,
        user_files: &[
            (On::All, "$CONFIG/Code/User/mcp.json"),
            (On::All, "$CONFIG/Code - Insiders/User/mcp.json"),
            (On::All, "$CONFIG/VSCodium/User/mcp.json"),
        ],
        project_files: &[".vscode/mcp.json"],
    },
    McpHost {
        name: "windsurf",
        title: "Windsurf",
        format: &WINDSURF,
        user_files: &[(On::All, "~/.codeium/windsurf/mcp_config.json")],
        project_files: &[],
    },
    McpHost {
        name: "zed",
        title: "Zed",
        format: &ZED,
        user_files: &[
            (On::Linux, "$CONFIG/zed/settings.json"),
            (On::Mac, "~/.config/zed/settings.json"),
            (On::Windows, "$CONFIG/Zed/settings.json"),
        ],
        project_files: &[".zed/settings.json"],
    },
];
