//! Reads a type, and says where it cannot be sent.

use proc_macro2::Span;
use quote::ToTokens;
use syn::{
    Attribute, Data, DeriveInput, Error, GenericParam, Generics, Ident, LitStr, Member, Path, Result, Token,
    Type, meta::ParseNestedMeta, parenthesized, parse_quote, punctuated::Punctuated, spanned::Spanned,
    visit::Visit,
};

use crate::model::{Derive, Field, Fields, Model, Settings, Shape, Style, Variant};

/// Collects errors, so that all are told at once.
#[derive(Default)]
struct Errors(Option<Error>);

impl Errors {
    fn add(&mut self, error: Error) {
        match &mut self.0 {
            Some(errors) => errors.combine(error),
            none => *none = Some(error),
        }
    }

    fn at(&mut self, place: impl ToTokens, message: &str) {
        self.add(Error::new_spanned(place, message));
    }
}

pub fn parse(derive: Derive, input: DeriveInput) -> Result<Model> {
    let mut errors = Errors::default();
    let settings = settings(derive, &input.attrs, &mut errors);
    item_attributes(&input.attrs, &mut errors);
    let generics = generics(input.generics, &mut errors);
    let shape = match input.data {
        Data::Struct(data) => {
            let fields = fields(data.fields, &mut errors);
            bulk(derive, &fields, &mut errors);
            Shape::Struct(fields)
        }
        Data::Enum(data) => {
            let variants: Vec<_> = data
                .variants
                .into_iter()
                .map(|it| variant(it, &mut errors))
                .collect();
            match variants.len() {
                0 => errors.at(&input.ident, "an enum without variants has no values to send"),
                1..=256 => {}
                _ => errors.at(&input.ident, "an enum in a message can have at most 256 variants"),
            }
            Shape::Enum(variants)
        }
        Data::Union(data) => {
            errors.add(Error::new(
                data.union_token.span,
                "a union cannot be sent: nothing says which of its fields is valid; use an enum",
            ));
            Shape::Enum(Vec::new())
        }
    };
    match errors.0 {
        Some(error) => Err(error),
        None => Ok(Model {
            derive,
            ident: input.ident,
            vis: input.vis,
            generics,
            settings,
            shape,
        }),
    }
}

fn settings(derive: Derive, attrs: &[Attribute], errors: &mut Errors) -> Settings {
    let mut settings = Settings::default();
    for attr in attrs.iter().filter(|attr| attr.path().is_ident("shm")) {
        if let Err(error) = attr.parse_nested_meta(|meta| setting(derive, &mut settings, meta)) {
            errors.add(error);
        }
    }
    settings
}

fn setting(derive: Derive, settings: &mut Settings, meta: ParseNestedMeta<'_>) -> Result<()> {
    if meta.path.is_ident("name") {
        let name: LitStr = meta.value()?.parse()?;
        if name.value().is_empty() {
            return Err(Error::new(name.span(), "a name must not be empty"));
        }
        once(&meta, &mut settings.name, name)
    } else if meta.path.is_ident("reply") {
        let reply: Type = meta.value()?.parse()?;
        if derive == Derive::Type {
            return Err(meta.error("only a message has a reply: derive `ShmMessage` instead of `ShmType`"));
        }
        once(&meta, &mut settings.reply, reply)
    } else if meta.path.is_ident("archive") {
        let how: Ident = meta.value()?.parse()?;
        if how != "manual" {
            return Err(Error::new(how.span(), "expected `archive = manual`"));
        }
        settings.manual = true;
        Ok(())
    } else if meta.path.is_ident("derive") {
        let content;
        parenthesized!(content in meta.input);
        settings
            .derives
            .extend(Punctuated::<Path, Token![,]>::parse_terminated(&content)?);
        Ok(())
    } else if meta.path.is_ident("opaque") {
        Err(meta.error("`opaque` belongs on a field"))
    } else {
        Err(meta.error(
            "unknown key; a type takes `name = \"..\"`, `reply = T`, `archive = manual` and `derive(..)`",
        ))
    }
}

fn once<T>(meta: &ParseNestedMeta<'_>, slot: &mut Option<T>, value: T) -> Result<()> {
    if slot.replace(value).is_some() {
        Err(meta.error("given twice"))
    } else {
        Ok(())
    }
}

fn item_attributes(attrs: &[Attribute], errors: &mut Errors) {
    rkyv_attributes(attrs, errors);
    for attr in attrs.iter().filter(|attr| attr.path().is_ident("repr")) {
        // What else `repr` may say is the compiler's to check.
        let _ = attr.parse_nested_meta(|meta| {
            if meta.path.is_ident("packed") {
                errors.add(meta.error("a packed type cannot be archived: its fields are not aligned"));
            }
            if meta.input.peek(syn::token::Paren) {
                let content;
                parenthesized!(content in meta.input);
                content.parse::<proc_macro2::TokenStream>()?;
            }
            Ok(())
        });
    }
}

/// rkyv's own attributes mean nothing here, but for niches, which would be unsound with `archive = manual` too.
fn rkyv_attributes(attrs: &[Attribute], errors: &mut Errors) {
    for attr in attrs.iter().filter(|attr| attr.path().is_ident("rkyv")) {
        let tokens = attr.meta.to_token_stream().to_string().to_lowercase();
        if tokens.contains("nich") {
            errors.at(
                attr,
                "rkyv's niches are not sent: checking them is unsound in rkyv 0.8.18",
            );
        }
    }
}

fn generics(mut generics: Generics, errors: &mut Errors) -> Generics {
    let mut types = Vec::new();
    for param in &mut generics.params {
        match param {
            GenericParam::Lifetime(lifetime) => errors.at(
                &lifetime.lifetime,
                "a message owns its data: replace the reference by `String`, `Vec`, `Box` or another owned type",
            ),
            GenericParam::Type(param) => {
                param.default = None;
                types.push(param.ident.clone());
            }
            GenericParam::Const(param) => {
                param.default = None;
            }
        }
    }
    let clause = generics.make_where_clause();
    for ident in types {
        clause
            .predicates
            .push(parse_quote!(#ident: ::shmbus::__private::ShmType));
    }
    generics
}

fn variant(variant: syn::Variant, errors: &mut Errors) -> Variant {
    for attr in variant.attrs.iter().filter(|attr| attr.path().is_ident("shm")) {
        errors.at(attr, "a variant takes no `shm` attribute");
    }
    rkyv_attributes(&variant.attrs, errors);
    if let Some((_, value)) = &variant.discriminant {
        errors.at(
            value,
            "an explicit discriminant cannot be sent: checking it is unsound in rkyv 0.8.18; variants are numbered in order",
        );
    }
    let fields = fields(variant.fields, errors);
    for field in fields.list.iter().filter(|field| field.bulk) {
        errors.at(&field.ty, BULK_INSIDE);
    }
    Variant {
        ident: variant.ident,
        fields,
    }
}

const BULK_INSIDE: &str =
    "a `Bulk` must be a field of the message itself: a loan's payload is the first thing in its archive";

/// A message has at most one `Bulk`, and a type that is part of messages none. What stands before it is looked at
/// by the compiler, when the types are known.
fn bulk(derive: Derive, fields: &Fields, errors: &mut Errors) {
    let mut bulks = fields.list.iter().filter(|field| field.bulk);
    if derive == Derive::Type {
        for field in bulks {
            errors.at(
                &field.ty,
                "a `Bulk` must be a field of the message itself: derive `ShmMessage`, or use `Vec<u8>`",
            );
        }
        return;
    }
    bulks.next();
    for field in bulks {
        errors.at(
            &field.ty,
            "a message has at most one `Bulk`; use `Vec<u8>` for other bytes",
        );
    }
}

/// Whether this is the type `Bulk`, as far as the name says.
fn is_bulk(ty: &Type) -> bool {
    match ty {
        Type::Path(path) => path
            .path
            .segments
            .last()
            .is_some_and(|last| last.ident == "Bulk" && last.arguments.is_none()),
        Type::Group(group) => is_bulk(&group.elem),
        Type::Paren(paren) => is_bulk(&paren.elem),
        _ => false,
    }
}

fn fields(fields: syn::Fields, errors: &mut Errors) -> Fields {
    let style = match &fields {
        syn::Fields::Named(_) => Style::Named,
        syn::Fields::Unnamed(_) => Style::Tuple,
        syn::Fields::Unit => Style::Unit,
    };
    let members: Vec<Member> = fields.members().collect();
    let list = fields
        .into_iter()
        .zip(members)
        .map(|(it, member)| field(it, member, errors))
        .collect();
    Fields { style, list }
}

fn field(field: syn::Field, member: Member, errors: &mut Errors) -> Field {
    rkyv_attributes(&field.attrs, errors);
    let mut opaque = None;
    for attr in field.attrs.iter().filter(|attr| attr.path().is_ident("shm")) {
        let parsed = attr.parse_nested_meta(|meta| {
            if !meta.path.is_ident("opaque") {
                return Err(meta.error("unknown key; a field takes `opaque = \"name@version\"`"));
            }
            let label: LitStr = meta.value()?.parse()?;
            if label
                .value()
                .split_once('@')
                .is_none_or(|(name, version)| name.is_empty() || version.is_empty())
            {
                return Err(Error::new(
                    label.span(),
                    "expected \"name@version\", such as \"uuid@1\"",
                ));
            }
            once(&meta, &mut opaque, label)
        });
        if let Err(error) = parsed {
            errors.add(error);
        }
    }
    let bulk = is_bulk(&field.ty);
    if bulk {
        if let Some(label) = &opaque {
            errors.at(label, "a `Bulk` has a schema: it cannot be opaque");
        }
    } else {
        Refused(errors).visit_type(&field.ty);
    }
    // The place of the type, but the names of the generated code.
    let span = field.ty.span().resolved_at(Span::call_site());
    Field {
        vis: field.vis,
        member,
        ty: field.ty,
        opaque,
        bulk,
        span,
    }
}

/// Finds types inside of types that are known to be no good.
struct Refused<'a>(&'a mut Errors);

impl<'ast> Visit<'ast> for Refused<'_> {
    fn visit_path(&mut self, path: &'ast Path) {
        if let Some(last) = path.segments.last() {
            let ident = &last.ident;
            if ["Rc", "Arc"].iter().any(|shared| ident == shared) && !last.arguments.is_none() {
                self.0.at(
                    path,
                    "a shared pointer cannot be sent: checking it is unsound in rkyv 0.8.18; use `Box`, or the value itself",
                );
            }
            if ident == "Bulk" && last.arguments.is_none() {
                self.0.at(path, BULK_INSIDE);
            }
            if path.segments.len() == 1 && (ident == "usize" || ident == "isize") {
                let message = format!(
                    "`{ident}` cannot be sent: its archived form has 32 bits and would cut longer values; use `{}32` or `{0}64`",
                    if ident == "usize" { "u" } else { "i" }
                );
                self.0.at(path, &message);
            }
        }
        syn::visit::visit_path(self, path);
    }

    fn visit_type_reference(&mut self, reference: &'ast syn::TypeReference) {
        self.0.add(Error::new(
            reference.span(),
            "a message owns its data: replace the reference by `String`, `Vec`, `Box` or another owned type",
        ));
    }

    fn visit_type_ptr(&mut self, pointer: &'ast syn::TypePtr) {
        self.0.add(Error::new(
            pointer.span(),
            "a pointer means nothing in another process",
        ));
    }

    // The length of an array is not a type: `usize` may occur there.
    fn visit_type_array(&mut self, array: &'ast syn::TypeArray) {
        self.visit_type(&array.elem);
    }
}
