//! The sources of the product, and what each of them defines and names outside of its tests.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use proc_macro2::{Span, TokenStream, TokenTree};
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::token::Comma;
use syn::visit::{self, Visit};
use syn::{Attribute, ImplItem, Item, ItemUse, LitStr, Macro, Meta, MetaList, Stmt, TraitItem, UseTree, Visibility};

/// The sources below a folder, without those that only tests use.
pub(super) struct Sources {
    /// Each file by its name below the folder, without the extension: `engine/run`, `journal/mod`.
    pub(super) files: BTreeMap<String, SourceFile>,
}

impl Sources {
    /// Returns the sources of the product, which are read once for all tests.
    pub(super) fn of_product() -> &'static Self {
        static SOURCES: LazyLock<Sources> = LazyLock::new(Sources::read_product);
        &SOURCES
    }

    fn read_product() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut files = Vec::new();
        collect(&root, &mut files);
        assert!(files.len() > 20, "the sources were not found in `{}`", root.display());
        Self::parse(files.iter().map(|file| {
            let name = file.strip_prefix(&root).expect("below `src`").with_extension("");
            (name.to_str().expect("UTF-8").to_owned(), fs::read_to_string(file).expect("reads"))
        }))
    }

    /// Parses sources by their names.
    pub(super) fn parse<N: Into<String>, T: AsRef<str>>(sources: impl IntoIterator<Item = (N, T)>) -> Self {
        let mut files: BTreeMap<String, _> = BTreeMap::new();
        for (name, text) in sources {
            let name = name.into();
            let source = SourceFile::parse(&name, text.as_ref());
            files.insert(name, source);
        }
        let of_tests: BTreeSet<_> = files.values().flat_map(|source| &source.test_modules).cloned().collect();
        let is_test =
            |source: &SourceFile| (1..=source.module.len()).any(|end| of_tests.contains(&source.module[..end]));
        files.retain(|_, source| !is_test(source));
        Self { files }
    }
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// A path in a file. It starts with `crate` if the file names its start by `crate`, `self`, `super`, or `kapell`.
pub(super) struct NamedPath {
    pub(super) segments: Vec<String>,
    pub(super) line: usize,
    pub(super) kind: PathKind,
}

/// What a path is for.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum PathKind {
    /// A `use` that makes a name of another file visible from outside.
    Reexport,
    /// Any other `use`.
    Import,
    /// Code that needs it.
    #[default]
    Code,
}

/// What a file defines and names outside of its tests.
#[derive(Default)]
pub(super) struct SourceFile {
    /// Its module in the crate: `["engine", "run"]`.
    pub(super) module: Vec<String>,
    /// The child modules that exist for tests only.
    test_modules: Vec<Vec<String>>,
    /// The paths that it names.
    pub(super) paths: Vec<NamedPath>,
    /// The structs, enums, and traits that it defines, with their lines.
    pub(super) types: Vec<(String, usize)>,
    /// The line of its first item that is neither a module, an import, nor a macro.
    pub(super) first_definition: Option<usize>,
    /// The names that it imports, with what they stand for.
    pub(super) imports: BTreeMap<String, Vec<String>>,
    /// The paths of its glob imports.
    pub(super) globs: Vec<Vec<String>>,
    /// The kind of the paths that are being visited.
    kind: PathKind,
}

impl SourceFile {
    fn parse(name: &str, text: &str) -> Self {
        let mut module: Vec<_> = name.split('/').map(str::to_owned).collect();
        if module.len() > 1 && module.last().is_some_and(|last| last == "mod") {
            module.pop();
        }
        let file = syn::parse_file(text).unwrap_or_else(|error| panic!("src/{name}.rs: {error}"));
        let mut source = Self { module, ..Self::default() };
        source.visit_file(&file);
        source
    }

    /// Returns a path from the root of the crate if it starts with `crate`, `self`, `super`, or `kapell`.
    fn resolve(&self, path: &[String]) -> Vec<String> {
        let ups = path.iter().take_while(|segment| *segment == "super").count();
        let (base, rest) = match path[0].as_str() {
            "crate" | "kapell" => (&[][..], &path[1..]),
            "self" => (&self.module[..], &path[1..]),
            "super" => (&self.module[..self.module.len().saturating_sub(ups)], &path[ups..]),
            _ => return path.to_vec(),
        };
        [&["crate".to_owned()], base, rest].concat()
    }

    fn record(&mut self, path: &[String], span: Span) -> Vec<String> {
        let segments = self.resolve(path);
        self.paths.push(NamedPath { segments: segments.clone(), line: span.start().line, kind: self.kind });
        segments
    }

    fn record_import(&mut self, path: &[String], name: &syn::Ident) {
        let segments = self.record(path, name.span());
        let name = if name == "self" { path.last().cloned() } else { Some(name.to_string()) };
        self.imports.extend(name.map(|name| (name, segments)));
    }

    /// Records each path of a `use` tree.
    fn record_tree(&mut self, prefix: &[String], tree: &UseTree) {
        let join = |name: &syn::Ident| [prefix, &[name.to_string()]].concat();
        match tree {
            UseTree::Path(path) => self.record_tree(&join(&path.ident), &path.tree),
            // In a group, `self` is the path of the group.
            UseTree::Name(name) if name.ident == "self" && !prefix.is_empty() => {
                self.record_import(prefix, &name.ident);
            }
            UseTree::Name(name) => self.record_import(&join(&name.ident), &name.ident),
            UseTree::Rename(rename) if rename.ident == "self" => self.record_import(prefix, &rename.rename),
            UseTree::Rename(rename) => self.record_import(&join(&rename.ident), &rename.rename),
            UseTree::Glob(glob) if !prefix.is_empty() => {
                let segments = self.record(prefix, glob.span());
                self.globs.push(segments);
            }
            UseTree::Glob(_) => {}
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.record_tree(prefix, tree)),
        }
    }

    /// Records the paths in the tokens of a macro call, which have no syntax tree.
    fn record_tokens(&mut self, tokens: TokenStream) {
        let (mut path, mut span, mut colons) = (Vec::new(), Span::call_site(), 0);
        for token in tokens {
            match token {
                TokenTree::Ident(name) => {
                    if colons != 2 {
                        self.record_path(&mut path, span);
                        span = name.span();
                    }
                    path.push(name.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                other => {
                    self.record_path(&mut path, span);
                    colons = 0;
                    if let TokenTree::Group(group) = other {
                        self.record_tokens(group.stream());
                    }
                }
            }
        }
        self.record_path(&mut path, span);
    }

    fn record_path(&mut self, path: &mut Vec<String>, span: Span) {
        if !path.is_empty() {
            self.record(path, span);
            path.clear();
        }
    }
}

impl<'ast> Visit<'ast> for SourceFile {
    fn visit_item(&mut self, item: &'ast Item) {
        if is_test(attributes_of_item(item)) {
            if let Item::Mod(module) = item
                && module.content.is_none()
            {
                let parent = if self.module == ["lib"] { &[] } else { self.module.as_slice() };
                self.test_modules.push([parent, &[module.ident.to_string()]].concat());
            }
            return;
        }
        let defined = match item {
            Item::Enum(item) => Some(&item.ident),
            Item::Struct(item) => Some(&item.ident),
            Item::Trait(item) => Some(&item.ident),
            _ => None,
        };
        if !matches!(item, Item::Mod(_) | Item::Use(_) | Item::Macro(_)) {
            self.first_definition.get_or_insert(item.span().start().line);
        }
        self.types.extend(defined.map(|name| (name.to_string(), name.span().start().line)));
        visit::visit_item(self, item);
    }

    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        assert!(module.content.is_none(), "`mod {}` must have a file of its own", module.ident);
        visit::visit_item_mod(self, module);
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        let attributes = match item {
            ImplItem::Const(item) => &item.attrs,
            ImplItem::Fn(item) => &item.attrs,
            ImplItem::Type(item) => &item.attrs,
            ImplItem::Macro(item) => &item.attrs,
            _ => return,
        };
        if !is_test(attributes) {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_trait_item(&mut self, item: &'ast TraitItem) {
        let attributes = match item {
            TraitItem::Const(item) => &item.attrs,
            TraitItem::Fn(item) => &item.attrs,
            TraitItem::Type(item) => &item.attrs,
            TraitItem::Macro(item) => &item.attrs,
            _ => return,
        };
        if !is_test(attributes) {
            visit::visit_trait_item(self, item);
        }
    }

    fn visit_field(&mut self, field: &'ast syn::Field) {
        if !is_test(&field.attrs) {
            visit::visit_field(self, field);
        }
    }

    fn visit_stmt(&mut self, statement: &'ast Stmt) {
        let attributes = match statement {
            Stmt::Local(local) => &local.attrs[..],
            Stmt::Macro(call) => &call.attrs,
            Stmt::Item(_) | Stmt::Expr(..) => &[],
        };
        if !is_test(attributes) {
            visit::visit_stmt(self, statement);
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.kind = if matches!(item.vis, Visibility::Inherited) { PathKind::Import } else { PathKind::Reexport };
        self.record_tree(&[], &item.tree);
        self.kind = PathKind::Code;
    }

    /// The path in `pub(in crate::engine)` is an ancestor.
    fn visit_visibility(&mut self, _: &'ast Visibility) {}

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<_> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.record(&segments, path.span());
        visit::visit_path(self, path);
    }

    /// Records the paths in strings of attributes, like `#[serde(with = "crate::model::time")]`.
    fn visit_meta_list(&mut self, list: &'ast MetaList) {
        visit::visit_meta_list(self, list);
        for token in list.tokens.clone() {
            if let Ok(text) = syn::parse2::<LitStr>(token.into())
                && let Ok(path) = text.parse::<syn::Path>()
                && path.segments.len() > 1
            {
                self.visit_path(&path);
            }
        }
    }

    fn visit_macro(&mut self, call: &'ast Macro) {
        visit::visit_macro(self, call);
        self.record_tokens(call.tokens.clone());
    }
}

fn attributes_of_item(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::ForeignMod(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::TraitAlias(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// Returns whether one of the attributes removes what it belongs to from the product.
fn is_test(attributes: &[Attribute]) -> bool {
    fn requires_test(predicate: &Meta) -> bool {
        let nested = |list: &MetaList| {
            list.parse_args_with(Punctuated::<Meta, Comma>::parse_terminated).unwrap_or_default().into_iter()
        };
        match predicate {
            // Entry points for fuzzing are no part of the product, either.
            Meta::Path(path) => path.is_ident("test") || path.is_ident("fuzzing"),
            Meta::List(list) if list.path.is_ident("all") => nested(list).any(|meta| requires_test(&meta)),
            Meta::List(list) if list.path.is_ident("any") => nested(list).all(|meta| requires_test(&meta)),
            Meta::List(_) | Meta::NameValue(_) => false,
        }
    }
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("test")
            || attribute.path().is_ident("cfg") && attribute.parse_args().is_ok_and(|meta: Meta| requires_test(&meta))
    })
}
